//! Credentials of the command: files, helpers, and that they are not shown.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::Scratch;
use common::registry::{Asks, BASIC, guarded, honest, origin};
use common::server::{Request, Response, Server};

/// The command, without this user's configuration.
fn knarr_image(home: &Path, words: &[&str]) -> Output {
    knarr_image_command(home, words).output().unwrap()
}

fn knarr_image_command(home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_knarr-image"));
    command.env_clear().env("HOME", home).env("XDG_RUNTIME_DIR", home.join("run"));
    command.arg("--root").arg(home.join("store")).args(words);
    command
}

fn auth_file(path: &Path, host: &str, password: &str) {
    let auths = format!(r#"{{"auths":{{"{host}":{{"username":"user","password":"{password}"}}}}}}"#);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, auths).unwrap();
}

#[test]
fn mirrors_have_their_own_credentials_in_the_given_file() {
    common::need_root!();
    let origin = origin("named-file");
    let (content, home) = (origin.content(), origin.place.path().join("home"));
    let mirror = Server::start(guarded(Asks::Basic, move |request: &Request| honest(&content, request)));
    let named = home.join("named.json");
    auth_file(&named, &mirror.address, "secret");
    auth_file(&home.join(".docker/config.json"), &mirror.address, "default");
    let (named, location) = (named.to_str().unwrap(), format!("registry.invalid={}", mirror.address));
    let words = [
        "pull",
        "--creds",
        "user:other",
        "--authfile",
        named,
        "--mirror",
        &location,
        "registry.invalid/repo",
    ];
    let output = knarr_image(&home, &words);
    assert!(output.status.success(), "{output:?}");
    let words = [
        "pull",
        "--creds",
        "user:x",
        "--authfile",
        "/missing",
        "--mirror",
        &location,
        "registry.invalid/repo",
    ];
    let said = String::from_utf8(knarr_image(&home, &words).stderr).unwrap();
    assert!(said.contains("--authfile \"/missing\""), "{said}");
}

#[test]
fn login_creates_the_file_and_logout_removes_each_name() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Scratch::new("login");
    let server = Server::start(guarded(Asks::Basic, |_: &Request| Response::new(200, "{}")));
    let guard = Server::start(|request| match request.header("authorization") {
        Some(BASIC) => Response::new(200, "{}"),
        _ => Response::new(401, "").header("www-authenticate", r#"Basic realm="x""#),
    });
    let file = place.path().join("new/auth.json");
    let path = file.to_str().unwrap();
    for (password, address) in
        [("wrong", &guard.address), ("secret", &guard.address), ("secret", &server.address)]
    {
        let words = ["login", "--authfile", path, "-u", "user", "-p", password, address];
        let output = knarr_image(place.path(), &words);
        assert_eq!(output.status.success(), password == "secret", "{output:?}");
        assert_eq!(file.exists(), password == "secret");
    }
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    for key in ["docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"] {
        auth_file(&file, key, "secret");
        let output = knarr_image(place.path(), &["logout", "--authfile", path, "docker.io"]);
        assert!(String::from_utf8_lossy(&output.stdout).contains("Removing"), "{key}: {output:?}");
        assert!(!std::fs::read_to_string(&file).unwrap().contains("secret"), "{key}");
    }
}

#[test]
fn the_output_of_a_credential_helper_is_not_shown() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Scratch::new("helper");
    std::fs::create_dir(place.path().join(".docker")).unwrap();
    std::fs::write(place.path().join(".docker/config.json"), r#"{"credsStore":"test"}"#).unwrap();
    let helper = place.path().join("docker-credential-test");
    for answer in [r#""SECRET""#, r#"{"Username":"u","Secret":5318008}"#, r#"["SECRET"]"#] {
        std::fs::write(&helper, format!("#!/bin/sh\ncat >/dev/null; echo '{answer}'\n")).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o700)).unwrap();
        let path = format!("{}:/usr/bin:/bin", place.path().display());
        let mut command = knarr_image_command(place.path(), &["login", "--get-login", "reg.test"]);
        let said = String::from_utf8(command.env("PATH", path).output().unwrap().stderr).unwrap();
        assert!(
            said.contains("docker-credential-test") && said.contains("line 1 column"),
            "{answer}: {said}"
        );
        assert!(!said.contains("SECRET") && !said.contains("5318008"), "{said}");
    }
}

#[test]
fn a_password_in_a_registrys_name_is_not_shown() {
    let place = Scratch::new("login-url");
    for name in ["https://me:PASSW0RD@reg.test", "me:PASSW0RD@reg.test/v2/", "http://me:PASS/W0RD@reg.test"] {
        for words in [&["login", "-u", "me", "-p", "x", name][..], &["logout", name]] {
            let output = knarr_image(place.path(), words);
            let said = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            assert!(!output.status.success() && said.contains("reg.test"), "{words:?}: {said}");
            assert!(!said.contains("PASS") && !said.contains("W0RD"), "{said}");
        }
    }
}
