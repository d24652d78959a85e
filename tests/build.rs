//! What scripts/build.sh says of headers that are missing, or of another nginx than the one that is
//! to load the module: before it builds what nginx would refuse.

mod lab;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::command::{self, Ended};
use tempfile::TempDir;

/// A copy of the configured sources of the nginx that the tests run with.
struct Tree {
    dir: TempDir,
}

impl Tree {
    fn copy() -> Tree {
        let source = std::env::var("NGINX_SOURCE_DIR").expect("NGINX_SOURCE_DIR");
        let dir = tempfile::Builder::new().prefix("lab-tree").tempdir().expect("directory");
        let tree = Tree { dir };
        for part in ["src", "objs"] {
            let mut copy = Command::new("cp");
            copy.arg("-r").arg(Path::new(&source).join(part)).arg(tree.path(part));
            assert!(command::run(copy).ok, "{part}");
        }
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn edit(&self, path: &str, change: impl FnOnce(&str) -> String) {
        let path = self.path(path);
        let old = fs::read_to_string(&path).expect("read");
        let new = change(&old);
        assert_ne!(old, new, "{}", path.display());
        fs::write(path, new).expect("write");
    }
}

fn nginx() -> String {
    std::env::var("NGINX_BIN").expect("NGINX_BIN")
}

fn build(nginx: &str, source: &Path) -> Ended {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/build.sh"));
    command.env("NGINX_BIN", nginx).env("NGINX_SOURCE_DIR", source).env_remove("NGINX_BUILD_DIR");
    command::run(command)
}

/// The one line that it ends with, without its own name.
fn refusal(nginx: &str, source: &Path) -> String {
    let ended = build(nginx, source);
    assert_eq!((ended.ok, ended.stdout.as_str()), (false, ""), "{ended:?}");
    let line = ended.stderr.lines().last().and_then(|l| l.strip_prefix("build.sh: "));
    line.unwrap_or_else(|| panic!("{ended:?}")).to_owned()
}

#[test]
#[ignore = "needs nginx and its configured sources: scripts/test.sh"]
fn other_headers_are_told_before_the_build() {
    let nginx = nginx();

    let tree = Tree::copy();
    fs::remove_dir_all(tree.path("objs")).expect("remove");
    let line = refusal(&nginx, tree.dir.path());
    assert!(line.contains("/objs is not configured: run ./configure"), "{line}");

    let line = refusal(&nginx, &tree.path("nothing"));
    assert!(line.starts_with("no sources of nginx in NGINX_SOURCE_DIR="), "{line}");

    let tree = Tree::copy();
    tree.edit("src/core/nginx.h", |text| {
        let version = text.lines().find(|l| l.starts_with("#define NGINX_VERSION ")).expect("it");
        text.replace(version, "#define NGINX_VERSION \"1.2.3\"")
    });
    let line = refusal(&nginx, tree.dir.path());
    assert!(line.contains(" is nginx 1.2.3: nginx would refuse the module"), "{line}");

    // As configure leaves it without libpcre2-dev.
    let tree = Tree::copy();
    tree.edit("objs/ngx_auto_config.h", |text| {
        text.replace("#define NGX_PCRE ", "#define NO_PCRE ")
    });
    let line = refusal(&nginx, tree.dir.path());
    assert!(line.contains("'not binary compatible'"), "{line}");
    assert!(line.contains("(nginx/sources: (NGX_PCRE)=1/0)"), "{line}");
}

#[test]
#[ignore = "needs nginx and its configured sources: scripts/test.sh"]
fn what_is_no_nginx_is_told() {
    let tree = Tree::copy();
    let line = refusal("/bin/false", tree.dir.path());
    assert!(line.contains("false -v failed"), "{line}");
    let line = refusal("/bin/echo", tree.dir.path());
    assert!(line.contains("echo is not nginx: "), "{line}");
    let line = refusal("/nonexistent", tree.dir.path());
    assert_eq!(line, "NGINX_BIN=/nonexistent can't be run");
}
