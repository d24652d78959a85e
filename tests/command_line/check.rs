//! `check` says what `openssl ocsp` and `openssl verify -crl_check` say of the same certificate.

use std::process::Command;

use serde_json::Value;

use super::lab::command::openssl;
use super::lab::process::Process;
use super::lab::{CrlServer, Gencrl, Identity, OpensslCa, Pointers, Port, Profile, wait_until};
use super::{Cli, WITHIN};

struct Scene {
    cli: Cli,
    root: Identity,
    ca: OpensslCa,
    list: CrlServer,
    ocsp: Port,
}

impl Scene {
    fn new() -> Scene {
        let (root, ca) = OpensslCa::with_root();
        let list = CrlServer::start(Port::reserve(), ca.crl(&Gencrl::default()));
        Scene { cli: Cli::alone(), root, ca, list, ocsp: Port::reserve() }
    }

    fn ocsp_url(&self) -> String {
        format!("http://{}", self.ocsp.addr())
    }

    fn pointers(&self) -> Pointers {
        Pointers { ocsp_url: Some(self.ocsp_url()), crl_url: Some(self.list.url()) }
    }

    /// By the CA, but not in its database: neither responder nor list know it.
    fn issue_aside(&self, name: &str, not_after: i64, with_crl: bool) -> Identity {
        let crl_url = with_crl.then(|| self.list.url());
        let ocsp_url = Some(self.ocsp_url());
        let profile = Profile { ocsp_url, crl_url, not_after, ..Profile::server(&[name]) };
        self.ca.issuer().issue(&profile)
    }

    /// `openssl ocsp` with the CA's database. Nobody connects before it is asked: it never
    /// recovers from a connection without a request.
    fn responder(&self) -> Process {
        self.cli.write("ca.pem", &self.ca.issuer().cert_pem());
        self.cli.write("ca.key", &self.ca.issuer().key_pem());
        let mut command = Command::new("openssl");
        command.args(["ocsp", "-ignore_err", "-ndays", "1", "-port", &self.ocsp.to_string()]);
        command.arg("-index").arg(self.ca.index()).current_dir(self.cli.dir.path());
        command.args(["-CA", "ca.pem", "-rsigner", "ca.pem", "-rkey", "ca.key"]);
        let process = Process::start(command, &self.cli.dir.path().join("responder.log"));
        wait_until("the responder to listen", WITHIN, || process.log().contains("aiting for"));
        process
    }

    /// What `openssl ocsp` says: good, revoked, unknown.
    fn asked(&self, leaf: &str) -> String {
        let (root, ca) = (self.cli.path("root.pem"), self.cli.path("ca.pem"));
        let url = self.ocsp_url();
        let args = ["ocsp", "-issuer", &ca, "-cert", leaf, "-url", &url, "-CAfile", &root];
        let ended = openssl(&args);
        assert!(ended.stderr.contains("Response verify OK"), "{ended:?}");
        let line = ended.stdout.lines().find_map(|l| l.strip_prefix(&format!("{leaf}: ")));
        line.unwrap_or_else(|| panic!("{ended:?}")).to_owned()
    }

    /// What `openssl verify` says with the list; the words of its error, if any.
    fn verified(&self, leaf: &str) -> Result<(), String> {
        let [root, ca, crl] = ["root.pem", "ca.pem", "crl.der"].map(|f| self.cli.path(f));
        let args = ["verify", "-CAfile", &root, "-untrusted", &ca, "-crl_check", "-CRLfile", &crl];
        let ended = openssl(&[&args[..], &[leaf]].concat());
        if ended.ok { Ok(()) } else { Err(ended.stderr) }
    }
}

#[test]
#[ignore = "needs openssl: scripts/test.sh"]
fn the_same_as_openssl() {
    const LATER: i64 = 90 * 86_400;
    let scene = Scene::new();
    let good = scene.ca.issue(&["good.test"], &scene.pointers());
    let revoked = scene.ca.issue(&["revoked.test"], &scene.pointers());
    scene.ca.revoke(&revoked, Some("superseded"));
    let only_ocsp = Pointers { crl_url: None, ..scene.pointers() };
    let gone = scene.ca.issue(&["gone.test"], &only_ocsp);
    scene.ca.revoke(&gone, Some("keyCompromise"));
    let unknown = scene.issue_aside("unknown.test", LATER, false);
    let unlisted = scene.issue_aside("unlisted.test", LATER, true);
    let expired = scene.issue_aside("expired.test", -60, true);
    let crl = scene.ca.crl(&Gencrl::default());
    scene.cli.write("crl.der", &crl);
    scene.list.publish(crl);
    scene.cli.write("root.pem", &scene.root.cert_pem());
    let _responder = scene.responder();
    // Name, what openssl ocsp says, what openssl verify says, what is made of it.
    for (name, id, ocsp, verify, result, code) in [
        ("good.test", &good, "good", "", "good", 0),
        ("revoked.test", &revoked, "revoked", "certificate revoked", "revoked", 1),
        ("gone.test", &gone, "revoked", "certificate revoked", "revoked", 1),
        ("unknown.test", &unknown, "unknown", "", "unproven", 3),
        ("unlisted.test", &unlisted, "unknown", "", "good", 0),
        ("expired.test", &expired, "unknown", "certificate has expired", "expired", 1),
    ] {
        scene.cli.stored(name).put_identity(id);
        let leaf = scene.cli.write(&format!("{name}.pem"), &id.cert_pem());
        let said = scene.cli.json(code, &["check", name]);
        assert_eq!(said["result"], result, "{said:#}");
        assert_eq!(
            (said["serial"].as_str(), scene.asked(&leaf)),
            (Some(&*id.serial()), ocsp.into())
        );
        assert_eq!(answer(&said, "ocsp")["status"], ocsp, "{said:#}");
        match scene.verified(&leaf) {
            Ok(()) => assert_eq!(verify, "", "{name}"),
            Err(words) => assert!(!verify.is_empty() && words.contains(verify), "{name}: {words}"),
        }
        // Where the certificate names the list: what verify says of it, but for the age.
        if !["gone.test", "unknown.test"].contains(&name) {
            let listed = verify == "certificate revoked";
            let status = if listed { "revoked" } else { "good" };
            assert_eq!(answer(&said, "crl")["status"], status, "{said:#}");
        }
        let text = scene.cli.run(&["check", name]).stdout;
        assert!(text.contains(&format!("\n{name}: {result}")), "{text}");
        // Stored for all, as far as it says something.
        let shown = scene.cli.json(0, &["show", name]);
        let evidence = shown["evidence"].as_array().expect("evidence");
        assert!(evidence.iter().any(|e| e["source"] == "ocsp" && e["status"] == ocsp), "{shown:#}");
    }
    let words = answer(&scene.cli.json(1, &["check", "revoked.test"]), "crl");
    assert_eq!(words["reason"], "superseded");
}

fn answer(said: &Value, source: &str) -> Value {
    let answers = said["certificates"][0]["answers"].as_array().expect("answers");
    let found = answers.iter().find(|a| a["source"] == source);
    found.unwrap_or_else(|| panic!("{source}: {said:#}")).clone()
}
