use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn dir() -> (tempfile::TempDir, Dir) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    (temp, dir)
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn replaces_whole_and_private() {
    let (temp, dir) = dir();
    std::fs::write(temp.path().join(".x.new"), "left by a dead one").unwrap();
    for text in ["one", "two"] {
        dir.replace("x", text.as_bytes()).unwrap();
        assert_eq!(dir.read("x", 3).unwrap().unwrap(), text.as_bytes());
    }
    assert_eq!(dir.names().unwrap(), ["x"]);
    assert_eq!(mode(&temp.path().join("x")), 0o600);
    dir.make("d").unwrap();
    assert_eq!(mode(&temp.path().join("d")), 0o700);
}

#[test]
fn reads_are_bounded() {
    let (temp, dir) = dir();
    std::fs::write(temp.path().join("x"), "1234").unwrap();
    assert_eq!(dir.read("x", 4).unwrap().unwrap(), b"1234");
    let error = dir.read("x", 3).unwrap_err();
    assert!(error.to_string().ends_with("is damaged: larger than 3 bytes"), "{error}");
    assert!(dir.read("none", 3).unwrap().is_none());
}

#[test]
fn follows_no_link_and_waits_for_no_pipe() {
    let (temp, dir) = dir();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("x"), "theirs").unwrap();
    symlink(outside.path(), temp.path().join("folder")).unwrap();
    symlink(outside.path().join("x"), temp.path().join("file")).unwrap();
    symlink(outside.path().join("x"), temp.path().join(".y.new")).unwrap();
    assert!(dir.enter("folder").is_err());
    assert!(dir.make("folder").is_err());
    assert!(dir.read("file", 10).is_err());
    dir.replace("file", b"ours").unwrap();
    dir.replace("y", b"ours").unwrap();
    assert_eq!(std::fs::read(outside.path().join("x")).unwrap(), b"theirs");
    assert_eq!(dir.read("file", 10).unwrap().unwrap(), b"ours");

    let fifo = temp.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let error = dir.read("fifo", 10).unwrap_err();
    assert!(error.to_string().ends_with("not a regular file"), "{error}");
}

#[test]
fn removes_folders() {
    let (_temp, dir) = dir();
    dir.make("d").unwrap().replace("x", b"").unwrap();
    dir.remove_all("d").unwrap();
    dir.remove_all("d").unwrap();
    assert!(dir.enter("d").unwrap().is_none());
}
