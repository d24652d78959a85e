//! The folder of the vectors, and what is in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use openssl::x509::X509;

const VARIABLE: &str = "CERT_AUTOFETCH_VECTORS";

/// The folder of the Python package `cryptography_vectors`.
pub struct Folder(PathBuf);

impl Folder {
    pub fn open() -> Folder {
        let Some(path) = std::env::var_os(VARIABLE) else {
            panic!(
                "{VARIABLE} is not set: it names the folder of the package \
                    cryptography_vectors, which scripts/test.sh installs"
            );
        };
        let folder = Folder(path.into());
        assert!(folder.path("x509/ocsp").is_dir(), "{VARIABLE} has no x509/ocsp: {:?}", folder.0);
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The first certificate of a file, PEM or DER.
    pub fn certificate(&self, name: &str) -> X509 {
        let der = pem_or_der(&self.read(name), "CERTIFICATE");
        X509::from_der(&der).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The names of the files in a folder and below, from `folder` on, in order.
    pub fn files(&self, folder: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        walk(&self.path(folder), "", &mut found);
        found
    }
}

fn walk(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{folder:?}: {e}")) {
        let entry = entry.expect("entry of a folder");
        let name = format!("{prefix}{}", entry.file_name().to_str().expect("name in UTF-8"));
        if entry.path().is_dir() {
            walk(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name);
        }
    }
}

/// The DER of the first PEM block labelled `label`, or the bytes as they are if there is no PEM.
pub fn pem_or_der(bytes: &[u8], label: &str) -> Vec<u8> {
    if has_pem(bytes) { pem(bytes, label).swap_remove(0) } else { bytes.to_vec() }
}

pub fn has_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|w| w == b"-----BEGIN ")
}

/// The DER of all PEM blocks with a label. Not OpenSSL's reader: that one also reads what is
/// inside, and refuses what it can't.
pub fn pem(bytes: &[u8], label: &str) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(bytes);
    let begin = format!("-----BEGIN {label}-----");
    text.split(&begin).skip(1).map(|rest| decode(rest.split("-----END ").next())).collect()
}

fn decode(body: Option<&str>) -> Vec<u8> {
    let lines = body.unwrap_or_default().lines().map(str::trim);
    let base64: String = lines.filter(|line| !line.contains(':')).collect();
    openssl::base64::decode_block(&base64).expect("base64")
}
