//! Changes as `docker commit` makes them.

use serde_json::{Value, json};

use super::{apply, parse};
use crate::error::{ErrorKind, Result};

/// The config after these instructions.
fn applied(base: &Value, text: &str) -> Result<Value> {
    let mut config = base.as_object().unwrap().clone();
    apply(&parse(text)?, &mut config)?;
    Ok(config.into())
}

fn base() -> Value {
    json!({"Env": ["PATH=/bin", "A=old", "PORTS=80 443"], "Cmd": ["old"], "WorkingDir": "/w/x"})
}

#[test]
fn instructions_change_what_they_name() {
    for (text, field, expected) in [
        // Commands.
        ("CMD [\"a\", \"b c\"]", "Cmd", json!(["a", "b c"])),
        ("cmd echo $A \"x\"", "Cmd", json!(["/bin/sh", "-c", "echo $A \"x\""])),
        ("CMD [not json", "Cmd", json!(["/bin/sh", "-c", "[not json"])),
        ("CMD []", "Cmd", json!([])),
        ("CMD -x", "Cmd", json!(["/bin/sh", "-c", "-x"])),
        ("ENTRYPOINT [\"/x\"]", "Cmd", Value::Null),
        ("CMD [\"new\"]\nENTRYPOINT [\"/x\"]", "Cmd", json!(["new"])),
        ("ENTRYPOINT [\"/x\"]\nCMD [\"new\"]", "Cmd", json!(["new"])),
        ("CMD []\nENTRYPOINT [\"/x\"]", "Cmd", Value::Null),
        ("ENTRYPOINT x y", "Entrypoint", json!(["/bin/sh", "-c", "x y"])),
        // Variables. Each instruction sees those before it.
        ("ENV A=1", "Env", json!(["PATH=/bin", "A=1", "PORTS=80 443"])),
        ("ENV PATH=/opt/x:$PATH", "Env", json!(["PATH=/opt/x:/bin", "A=old", "PORTS=80 443"])),
        (
            "ENV B=\"x y\" C=x\\ y D='$A'",
            "Env",
            json!(["PATH=/bin", "A=old", "PORTS=80 443", "B=x y", "C=x y", "D=$A"]),
        ),
        ("ENV A=new B=$A\nENV C=$A", "Env", json!(["PATH=/bin", "A=new", "PORTS=80 443", "B=old", "C=new"])),
        ("ENV B x  y \"z\"", "Env", json!(["PATH=/bin", "A=old", "PORTS=80 443", "B=x  y z"])),
        ("ENV B=1 \\\n  C=2", "Env", json!(["PATH=/bin", "A=old", "PORTS=80 443", "B=1", "C=2"])),
        ("ENV B= C=", "Env", json!(["PATH=/bin", "A=old", "PORTS=80 443", "B=", "C="])),
        ("LABEL k=v \"x.y\"=\"$A z\"", "Labels", json!({"k": "v", "x.y": "old z"})),
        ("LABEL k some text", "Labels", json!({"k": "some text"})),
        // Ports.
        ("EXPOSE 80 53/udp", "ExposedPorts", json!({"80/tcp": {}, "53/udp": {}})),
        ("EXPOSE 8000-8002", "ExposedPorts", json!({"8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}})),
        ("EXPOSE $PORTS", "ExposedPorts", json!({"80/tcp": {}, "443/tcp": {}})),
        // Paths.
        ("VOLUME [\"/a b\", \"$A\"]", "Volumes", json!({"/a b": {}, "old": {}})),
        ("VOLUME /a /b", "Volumes", json!({"/a": {}, "/b": {}})),
        ("WORKDIR /a/../b", "WorkingDir", json!("/a/../b")),
        ("WORKDIR \"/a b\"", "WorkingDir", json!("/a b")),
        ("WORKDIR /a b", "WorkingDir", json!("/a b")),
        ("WORKDIR b", "WorkingDir", json!("/w/x/b")),
        ("WORKDIR ../b/.\nWORKDIR $A", "WorkingDir", json!("/w/b/old")),
        ("WORKDIR ../../../..", "WorkingDir", json!("/")),
        // The rest.
        ("USER 5:6", "User", json!("5:6")),
        ("USER ${U:-\"$A\"}", "User", json!("old")),
        ("STOPSIGNAL SIGUSR1", "StopSignal", json!("SIGUSR1")),
        ("STOPSIGNAL ${S:-9}", "StopSignal", json!("9")),
        ("ONBUILD RUN make  $A", "OnBuild", json!(["RUN make  $A"])),
        ("HEALTHCHECK NONE", "Healthcheck", json!({"Test": ["NONE"]})),
        ("HEALTHCHECK CMD curl $A", "Healthcheck", json!({"Test": ["CMD-SHELL", "curl $A"]})),
        (
            "HEALTHCHECK --interval=1m30s --timeout=0s --start-period=5s --start-interval=1s --retries=3 \\\n cmd [\"x\", \"y\"]",
            "Healthcheck",
            json!({"Test": ["CMD", "x", "y"], "Interval": 90_000_000_000_i64, "StartPeriod": 5_000_000_000_i64,
                "StartInterval": 1_000_000_000_i64, "Retries": 3}),
        ),
        (
            "HEALTHCHECK --interval= --timeout=-0s --start-period=5000000000s --start-interval= --retries= CMD x",
            "Healthcheck",
            json!({"Test": ["CMD-SHELL", "x"], "StartPeriod": 5_000_000_000_000_000_000_i64}),
        ),
        ("# no\n\nUSER x # y", "User", json!("x # y")),
        ("# escape=`\nUSER `$A", "User", json!("$A")),
    ] {
        assert_eq!(applied(&base(), text).unwrap()[field], expected, "{text}");
    }
}

#[test]
fn an_empty_config_and_one_of_null_can_be_changed() {
    for base in
        [json!({}), json!({"Env": null, "Labels": null, "OnBuild": null, "WorkingDir": null, "Shell": null})]
    {
        let text = "ENV A=1\nLABEL k=v\nWORKDIR b\nONBUILD USER x\nCMD x";
        let config = applied(&base, text).unwrap();
        assert_eq!((&config["Env"], &config["Labels"]), (&json!(["A=1"]), &json!({"k": "v"})));
        assert_eq!((&config["WorkingDir"], &config["OnBuild"]), (&json!("/b"), &json!(["USER x"])));
        assert_eq!(config["Cmd"], json!(["/bin/sh", "-c", "x"]));
    }
    let own = applied(&json!({"Shell": ["/bin/bash", "-ec"]}), "CMD x").unwrap();
    assert_eq!(own["Cmd"], json!(["/bin/bash", "-ec", "x"]));
}

#[test]
fn what_is_not_an_instruction_for_a_config_is_refused() {
    for (text, why) in [
        ("RUN x", "must be CMD, ENTRYPOINT"),
        ("SHELL [\"x\"]", "must be CMD, ENTRYPOINT"),
        ("FROM x", "must be CMD, ENTRYPOINT"),
        ("MAINTAINER x", "must be CMD, ENTRYPOINT"),
        ("FOO x", "must be CMD, ENTRYPOINT"),
        ("CMD", "an argument is required"),
        ("USER  ", "an argument is required"),
        ("VOLUME []", "an argument is required"),
        ("VOLUME [\" \"]", "a path must not be empty"),
        ("CMD [1]", "strings only"),
        ("CMD --x y", "unknown flag \"--x\""),
        ("CMD [\"a\\u0000b\"]", "must not contain NUL"),
        ("VOLUME [\"/a\\u0000b\"]", "must not contain NUL"),
        ("HEALTHCHECK CMD [\"a\\u0000b\"]", "must not contain NUL"),
        ("CMD a\0b", "must not contain NUL"),
        ("ENV A=a\0b", "must not contain NUL"),
        ("ONBUILD USER a\0b", "must not contain NUL"),
        ("ENV A", "must be NAME=VALUE"),
        ("ENV =x", "must be NAME=VALUE"),
        ("ENV A=1 B", "\"B\": must be NAME=VALUE"),
        ("ENV \"\"=x", "a name must not be empty"),
        ("ENV A=\"x", "missing \""),
        ("ENV A=${B", "missing }"),
        ("ENV A=\"${B:?set it}\"", "variable \"B\": set it"),
        ("EXPOSE http", "\"http\": must be a port"),
        ("EXPOSE 99999", "\"99999\": must be a port"),
        ("EXPOSE $A", "\"old\": must be a port"),
        ("STOPSIGNAL SIGFOO", "unknown signal \"SIGFOO\""),
        ("STOPSIGNAL $A", "unknown signal \"old\""),
        ("WORKDIR $NOTHING", "a path must not be empty"),
        ("ONBUILD", "an argument is required"),
        ("ONBUILD ONBUILD USER x", "ONBUILD cannot be a trigger"),
        ("ONBUILD from x", "FROM cannot be a trigger"),
        ("ONBUILD --x COPY . /x", "unknown instruction \"--X\""),
        ("ONBUILD FOO x", "unknown instruction \"FOO\""),
        ("HEALTHCHECK", "must be CMD COMMAND or NONE"),
        ("HEALTHCHECK x", "must be CMD COMMAND or NONE"),
        ("HEALTHCHECK NONE x", "NONE takes no arguments"),
        ("HEALTHCHECK CMD", "a command is required"),
        ("HEALTHCHECK CMD []", "a command is required"),
        ("HEALTHCHECK --interval=1 CMD x", "--interval \"1\": must be a time"),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries \"-1\": must be a number"),
        ("HEALTHCHECK --retries CMD x", "--retries: needs a value"),
        ("HEALTHCHECK --tries=1 CMD x", "unknown flag \"--tries=1\""),
        ("HEALTHCHECK --interval CMD x", "--interval: needs a value"),
        ("HEALTHCHECK --retries=1 --retries=1 CMD x", "given more than once"),
        ("HEALTHCHECK --x=1 CMD x", "unknown flag \"--x=1\""),
    ] {
        let error = applied(&base(), text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}: {error}");
        let expected = format!("instruction {:?}: ", text.trim());
        assert!(
            error.to_string().starts_with(&expected) && error.to_string().contains(why),
            "{text}: {error}"
        );
    }
}

#[test]
fn hostile_texts_are_refused() {
    let words = |count: usize| (0..count).map(|n| format!("w{n}=$L ")).collect::<String>();
    for (name, text) in [
        ("a long text", "#\n".repeat(3 << 20)),
        ("many instructions", "USER x\n".repeat(10_001)),
        ("a variable that doubles", format!("ENV L=0123456789abcdef\n{}", "ENV L=$L$L\n".repeat(30))),
        ("many long words", format!("ENV L={}\nLABEL {}", "x".repeat(100_000), words(100))),
        ("many long labels", {
            let lines: String = (0..100).map(|n| format!("LABEL l{n}=$L\n")).collect();
            format!("ENV L={}\n{lines}", "x".repeat(100_000))
        }),
    ] {
        let error = applied(&base(), &text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{name}");
    }
    // JSON that is too deep, or not JSON, is a line for the shell, as in Docker.
    for text in ["[".repeat(100_000), format!("[\"{}", "\\\"".repeat(1000))] {
        let config = applied(&base(), &format!("CMD {text}")).unwrap();
        assert_eq!(config["Cmd"][2], json!(text));
    }
}
