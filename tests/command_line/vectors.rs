//! Every PKCS#12 file of the Python package `cryptography-vectors`: which are taken, and what is
//! said of the others.

use super::Cli;

const TAKEN: &str = "";
const NO_KEY: &str = "there is no private key in the files";
const NO_CERTIFICATE: &str = "none of the certificates is for the private key";

/// File, password, what comes of it. `no-password.p12` has no password, which is not the empty
/// one, and RC2 with 40 bits: neither library does both.
const FILES: [(&str, &str, &str); 30] = [
    ("cert-aes256cbc-no-key", "cryptography", NO_KEY),
    ("cert-key-aes256cbc", "cryptography", TAKEN),
    ("cert-none-key-none", "cryptography", TAKEN),
    ("cert-rc2-key-3des", "cryptography", TAKEN),
    ("java-truststore", "", NO_KEY),
    ("name-1-no-pwd", "", TAKEN),
    ("name-1-pwd", "password", TAKEN),
    ("name-2-3-no-pwd", "", TAKEN),
    ("name-2-3-pwd", "password", TAKEN),
    ("name-2-no-pwd", "", TAKEN),
    ("name-2-pwd", "password", TAKEN),
    ("name-3-no-pwd", "", TAKEN),
    ("name-3-pwd", "password", TAKEN),
    ("name-all-no-pwd", "", TAKEN),
    ("name-all-pwd", "password", TAKEN),
    ("name-unicode-no-pwd", "", TAKEN),
    ("name-unicode-pwd", "password", TAKEN),
    ("no-cert-key-aes256cbc", "cryptography", NO_CERTIFICATE),
    ("no-cert-name-2-no-pwd", "", NO_KEY),
    ("no-cert-name-2-pwd", "password", NO_KEY),
    ("no-cert-name-3-no-pwd", "", NO_KEY),
    ("no-cert-name-3-pwd", "password", NO_KEY),
    ("no-cert-name-all-no-pwd", "", NO_KEY),
    ("no-cert-name-all-pwd", "password", NO_KEY),
    ("no-cert-name-unicode-no-pwd", "", NO_KEY),
    ("no-cert-name-unicode-pwd", "password", NO_KEY),
    ("no-cert-no-name-no-pwd", "", NO_KEY),
    ("no-cert-no-name-pwd", "password", NO_KEY),
    ("no-name-no-pwd", "", TAKEN),
    ("no-name-pwd", "password", TAKEN),
];

#[test]
#[ignore = "needs the test vectors: scripts/test.sh"]
fn each_file_is_taken_or_refused_in_one_line() {
    let folder = std::env::var("CERT_AUTOFETCH_VECTORS").expect("CERT_AUTOFETCH_VECTORS");
    let files = std::fs::read_dir(format!("{folder}/pkcs12")).expect("pkcs12").flatten();
    let count = files.filter(|f| f.file_name().to_string_lossy().ends_with(".p12")).count();
    assert_eq!(count, FILES.len() + 1, "with no-password.p12");

    let cli = Cli::alone();
    let wrong = cli.write("wrong", b"nonsense\n");
    for (i, (name, password, cause)) in FILES.into_iter().enumerate() {
        let file = format!("{folder}/pkcs12/{name}.p12");
        let right = cli.write("right", format!("{password}\n").as_bytes());
        // It is an authority's certificate, for no name.
        let args = ["import", "a.test", &file, "--force", "--password-file"];
        let ended = cli.run(&[&args[..], &[&right]].concat());
        if cause.is_empty() {
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{name}");
            cli.stored("a.test").check_whole();
        } else {
            assert_eq!((ended.code, ended.stderr.lines().count()), (Some(1), 1), "{name}");
            assert!(ended.stderr.contains(cause), "{name}: {}", ended.stderr);
        }
        // One of each protection: to try a password takes its time.
        if i < 7 {
            let ended = cli.run(&[&args[..], &[&wrong]].concat());
            assert_eq!(ended.code, Some(1), "{name}");
            assert!(ended.stderr.contains("password in --password-file is wrong"), "{name}");
        }
    }
    let file = format!("{folder}/pkcs12/no-password.p12");
    let ended = cli.run(&["import", "a.test", &file, "--force"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("it is encrypted"), "{ended:?}");
}
