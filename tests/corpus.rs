//! The fuzz targets over the inputs in `fuzz/corpus`: each was once of interest to libFuzzer, or a
//! finding.

mod fuzz;

use std::fs;
use std::path::{Path, PathBuf};

/// One test a target, so that the name of the test says which failed.
macro_rules! targets {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            over(stringify!($name), fuzz::$name::run);
        })*
    };
}

targets! { acme certificate chain client_hello crl crl_signed crl_stored est keystore ocsp_response ocsp_signed url }

fn over(name: &str, run: fn(&[u8])) {
    let files = files(&root().join("corpus").join(name));
    assert!(!files.is_empty());
    for file in files {
        println!("{}", file.display()); // shown if it fails
        run(&fs::read(&file).unwrap());
    }
}

#[test]
fn every_target_is_run_here() {
    let names = |folder: &str| -> Vec<String> {
        let name = |file: &PathBuf| file.file_stem().unwrap().to_str().unwrap().to_owned();
        files(&root().join(folder)).iter().map(name).collect()
    };
    assert_eq!(names("fuzz_targets"), NAMES);
    assert_eq!(names("corpus"), NAMES);
}

/// libFuzzer finds thousands of inputs: they stay out of the repository.
#[test]
fn corpora_are_small() {
    let folders = files(&root().join("corpus"));
    let all = folders.iter().flat_map(|f| files(f));
    let bytes: u64 = all.map(|f| fs::metadata(f).unwrap().len()).sum();
    assert!(bytes < 200_000, "{bytes} bytes: keep fewer");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
