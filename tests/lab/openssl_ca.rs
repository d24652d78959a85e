//! `openssl ca` in a directory of its own: the oldest way to run a CA, and its CRLs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use openssl::x509::{X509, X509Crl};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::acme;
use super::clock::now;
use super::command;
use super::pki::{Identity, KeyType, Profile};

/// A CA's database, by which it issues, revokes and lists.
pub struct OpensslCa {
    dir: TempDir,
    issuer: Identity,
}

/// What is put into a certificate.
#[derive(Clone, Debug, Default)]
pub struct Pointers {
    pub ocsp_url: Option<String>,
    pub crl_url: Option<String>,
}

/// How a list is to be made; the default is a correct one of version 2.
#[derive(Clone, Debug)]
pub struct Gencrl {
    /// Seconds from now.
    pub last_update: i64,
    /// Seconds from now.
    pub next_update: i64,
    /// No extensions, as long as no entry has a reason.
    pub version_1: bool,
    /// Lines of the IssuingDistributionPoint's section (x509v3_config), such as `onlyCA = TRUE`.
    pub scope: Option<String>,
}

impl Default for Gencrl {
    fn default() -> Gencrl {
        Gencrl { last_update: -60, next_update: 3600, version_1: false, scope: None }
    }
}

impl OpensslCa {
    /// For this issuer's certificates.
    pub fn of(issuer: &Identity) -> OpensslCa {
        let dir = tempfile::Builder::new().prefix("lab-openssl-ca").tempdir().expect("directory");
        let ca = OpensslCa { dir, issuer: issuer.clone() };
        fs::create_dir(ca.path("certs")).expect("mkdir");
        for (name, text) in [("index.txt", ""), ("crlnumber", "01\n"), ("ca.cnf", CONFIG)] {
            ca.put(name, text.as_bytes());
        }
        ca.put("ca.pem", &issuer.cert_pem());
        ca.put("ca.key", &issuer.key_pem());
        ca
    }

    /// A CA below a root that nobody asks about: the root and the CA.
    pub fn with_root() -> (Identity, OpensslCa) {
        let root = Identity::root("Openssl Root");
        let ca = OpensslCa::of(&root.issue(&Profile::authority("Openssl CA")));
        (root, ca)
    }

    /// Another issuer with this one's database: its lists name the same serials.
    pub fn usurped_by(&self, issuer: &Identity) -> OpensslCa {
        let other = OpensslCa::of(issuer);
        fs::copy(self.path("index.txt"), other.path("index.txt")).expect("copy");
        other
    }

    pub fn issuer(&self) -> &Identity {
        &self.issuer
    }

    /// For `nginx-conf/openssl-ca.sh`: this folder, and what is put into certificates.
    pub fn arguments(&self) -> String {
        self.put("leaf.cnf", EXTENSIONS.as_bytes());
        format!("{} -days 90 -extfile leaf.cnf", self.dir.path().display())
    }

    /// How many certificates are in the database.
    pub fn issued(&self) -> usize {
        fs::read_to_string(self.path("index.txt")).expect("index.txt").lines().count()
    }

    /// Its database, for `openssl ocsp`.
    pub fn index(&self) -> PathBuf {
        self.path("index.txt")
    }

    /// A certificate with a key of its own.
    pub fn issue(&self, names: &[&str], pointers: &Pointers) -> Identity {
        let key = KeyType::Ecdsa256.generate();
        self.put("leaf.csr", &acme::csr(names, &key).to_pem().expect("PEM"));
        let mut extensions = EXTENSIONS.to_owned();
        if let Some(url) = &pointers.ocsp_url {
            extensions += &format!("authorityInfoAccess = OCSP;URI:{url}\n");
        }
        if let Some(url) = &pointers.crl_url {
            extensions += &format!("crlDistributionPoints = URI:{url}\n");
        }
        self.put("leaf.cnf", extensions.as_bytes());
        let subject = format!("/CN={}", names[0]);
        let args = ["-in", "leaf.csr", "-out", "leaf.pem", "-notext", "-days", "90"];
        self.run(&[&args[..], &["-extfile", "leaf.cnf", "-subj", &subject]].concat());
        let cert = fs::read(self.path("leaf.pem")).expect("leaf.pem");
        let cert = X509::from_pem(&cert).expect("PEM");
        let mut chain = self.issuer.chain.clone();
        chain.insert(0, self.issuer.cert.clone());
        Identity { cert, key, chain }
    }

    /// With RFC 5280's name of the reason, if any. Also what it has not issued itself.
    pub fn revoke(&self, of: &Identity, reason: Option<&str>) {
        self.put("revoked.pem", &of.cert_pem());
        let reason = reason.map(|r| vec!["-crl_reason", r]).unwrap_or_default();
        self.run(&[&["-revoke", "revoked.pem"][..], &reason].concat());
    }

    /// Makes a certificate on hold good again, which openssl has no command for: in the database
    /// it was never revoked.
    pub fn release(&self, of: &Identity) {
        let serial = of.serial().to_uppercase();
        let index = fs::read_to_string(self.path("index.txt")).expect("index.txt");
        let line = |line: &str| {
            let mut fields: Vec<_> = line.split('\t').collect();
            if fields[3] == serial {
                assert!(fields[2].ends_with(",certificateHold"), "{line}");
                (fields[0], fields[2]) = ("V", "");
            }
            fields.join("\t") + "\n"
        };
        self.put("index.txt", index.lines().map(line).collect::<String>().as_bytes());
    }

    /// The list of now, DER.
    pub fn crl(&self, how: &Gencrl) -> Vec<u8> {
        let mut config = CONFIG.to_owned();
        if how.version_1 {
            config = config.replace("crlnumber = crlnumber\n", "");
        }
        if let Some(scope) = &how.scope {
            config += &format!("issuingDistributionPoint = critical, @scope\n[scope]\n{scope}\n");
        }
        self.put("crl.cnf", config.as_bytes());
        let [last, next] = [how.last_update, how.next_update].map(|t| utc(now() + t));
        let extensions = if how.version_1 { "" } else { "-crlexts crl" };
        let args = ["-gencrl", "-out", "crl.pem", "-crl_lastupdate", &last, "-crl_nextupdate"];
        let extensions: Vec<_> = extensions.split_whitespace().collect();
        self.run_with("crl.cnf", &[&args[..], &[&next], &extensions[..]].concat());
        let pem = fs::read(self.path("crl.pem")).expect("crl.pem");
        X509Crl::from_pem(&pem).and_then(|crl| crl.to_der()).expect("a CRL")
    }

    fn run(&self, args: &[&str]) {
        self.run_with("ca.cnf", args);
    }

    fn run_with(&self, config: &str, args: &[&str]) {
        let mut openssl = Command::new("openssl");
        openssl.args(["ca", "-batch", "-config", config]).args(args);
        openssl.current_dir(self.dir.path());
        let ended = command::run(openssl);
        assert!(ended.ok, "openssl ca {args:?}: {}", ended.stderr);
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("write");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// yymmddHHMMSSZ
fn utc(at: i64) -> String {
    let t = OffsetDateTime::from_unix_timestamp(at).expect("a time");
    let (year, month) = (t.year() % 100, u8::from(t.month()));
    format!("{year:02}{month:02}{:02}{:02}{:02}{:02}Z", t.day(), t.hour(), t.minute(), t.second())
}

const CONFIG: &str = "\
[ca]
default_ca = this
[this]
database = index.txt
new_certs_dir = certs
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = any
rand_serial = yes
unique_subject = no
copy_extensions = copy
crlnumber = crlnumber
[any]
commonName = optional
[crl]
authorityKeyIdentifier = keyid
";

const EXTENSIONS: &str = "\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
authorityKeyIdentifier = keyid
";
