//! The cache may fail in any way, but that never fails the caller and never gives another filter than the compiler does.

use super::*;
use std::os::unix::fs::PermissionsExt;

const KERNEL: (u32, u32) = (6, 18);

fn profile(name: &str) -> LinuxSeccomp {
    let json = format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{{"names": ["read", {name:?}], "action": "SCMP_ACT_ALLOW"}}]}}"#
    );
    serde_json::from_str(&json).expect("profile")
}

/// A temporary directory.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("knarr-seccomp-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        TempDir(path)
    }

    fn only_file(&self) -> PathBuf {
        let files: Vec<_> =
            std::fs::read_dir(&self.0).expect("dir").map(|f| f.expect("file").path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.into_iter().next().expect("file")
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_filter_comes_back_with_its_warnings() {
    let dir = TempDir::new("back");
    let profile = profile("no_such_call");
    let compiled = compile(&profile, KERNEL).expect("compile");
    assert!(!compiled.warnings.is_empty());
    assert_eq!(filter(&profile, KERNEL, Some(&dir.0)).expect("first"), compiled);
    let about = std::fs::metadata(dir.only_file()).expect("file");
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    assert_eq!(load(&dir.only_file(), &key(&profile, KERNEL).expect("key")), Some(compiled.clone()));
    assert_eq!(filter(&profile, KERNEL, Some(&dir.0)).expect("second"), compiled);
}

#[test]
fn a_file_of_another_profile_or_kernel_is_not_taken() {
    let dir = TempDir::new("other");
    let (one, two) = (profile("write"), profile("mkdirat"));
    filter(&one, KERNEL, Some(&dir.0)).expect("store");
    let path = dir.only_file();
    assert!(load(&path, &key(&two, KERNEL).expect("key")).is_none());
    assert!(load(&path, &key(&one, (5, 10)).expect("key")).is_none());
    assert!(load(&path, &key(&one, KERNEL).expect("key")).is_some());
}

#[test]
fn a_broken_or_foreign_file_is_passed_over() {
    let dir = TempDir::new("broken");
    let profile = profile("write");
    let good = filter(&profile, KERNEL, Some(&dir.0)).expect("store");
    let path = dir.only_file();
    let data = std::fs::read(&path).expect("read");
    let key = key(&profile, KERNEL).expect("key");
    for at in 0..data.len() {
        let mut bad = data.clone();
        bad[at] ^= 0x10;
        assert!(decode(&bad, &key).is_none(), "byte {at}");
        assert!(decode(&data[..at], &key).is_none(), "{at} bytes");
    }
    std::fs::write(&path, &data[..data.len() / 2]).expect("write");
    assert_eq!(filter(&profile, KERNEL, Some(&dir.0)).expect("mended"), good);
    assert_eq!(std::fs::read(&path).expect("read"), data, "a broken file is replaced");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).expect("chmod");
    assert!(load(&path, &key).is_none(), "anyone may write it");
    std::fs::remove_file(&path).expect("remove");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("symlink");
    assert!(load(&path, &key).is_none(), "a symlink");
}

#[test]
fn a_directory_that_cannot_be_used_is_not_an_error() {
    let dir = TempDir::new("unusable");
    let profile = profile("write");
    let compiled = compile(&profile, KERNEL).expect("compile");
    for path in ["/proc/nosuch", "/dev/null"] {
        assert_eq!(filter(&profile, KERNEL, Some(Path::new(path))).expect(path), compiled);
    }
    std::fs::create_dir(&dir.0).expect("mkdir");
    std::fs::set_permissions(&dir.0, std::fs::Permissions::from_mode(0o777)).expect("chmod");
    assert_eq!(filter(&profile, KERNEL, Some(&dir.0)).expect("open dir"), compiled);
    assert_eq!(std::fs::read_dir(&dir.0).expect("dir").count(), 0, "nothing is put where anyone may write");
}

#[test]
fn the_directory_does_not_grow_without_limit() {
    let dir = TempDir::new("full");
    for n in 0..200 {
        filter(&profile(&format!("call{n}")), KERNEL, Some(&dir.0)).expect("filter");
        assert!(std::fs::read_dir(&dir.0).expect("dir").count() <= MAX_FILES);
    }
}
