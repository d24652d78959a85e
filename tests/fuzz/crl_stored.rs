//! A CRL in the keystore that is not as we wrote it, or what we noted about it is not.

use std::fs;
use std::path::PathBuf;

use cert_autofetch::clock::{Clock, Time};
use cert_autofetch::evidence::Status;
use cert_autofetch::evidence::crl::{Crls, Found, Query};
use cert_autofetch::http::{Http, HttpError, Request, Response};
use cert_autofetch::keystore::Keystore;

use super::crl::{is_signed, query};
use super::no_error_is_left;
use super::pki::{NOW, Pki};

thread_local!(static WORLD: World = World::new());

/// An even first byte: the rest is the notes, else the list.
pub fn run(data: &[u8]) {
    if let Some((file, contents)) = data.split_first() {
        WORLD.with(|world| world.look_up_with(*file % 2 == 0, contents));
    }
}

/// What lies on the server: the leaf is not in it.
const LIST: &[u8] = include_bytes!("pki/sub.crl");

struct World {
    _dir: tempfile::TempDir,
    keystore: Keystore,
    pki: Pki,
    /// The list and the notes, with what belongs in them.
    files: [(PathBuf, Vec<u8>); 2],
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let keystore = Keystore::create(&dir.path().join("keystore"), None).unwrap();
        let pki = Pki::new();
        Crls::new(keystore.clone()).look_up(&Server, &Standing, &query(&pki)).unwrap();
        let folder = fs::read_dir(keystore.dir().join("crls")).unwrap();
        let files: Vec<PathBuf> = folder.map(|file| file.unwrap().path()).collect();
        let files = ["crl", "json"].map(|kind| {
            let file = files.iter().find(|f| f.extension().is_some_and(|e| e == kind)).unwrap();
            (file.clone(), fs::read(file).unwrap())
        });
        World { _dir: dir, keystore, pki, files }
    }

    fn look_up_with(&self, is_notes: bool, contents: &[u8]) {
        fs::write(&self.files[usize::from(is_notes)].0, contents).unwrap();
        // What is stored will do, then it will not.
        for asked_since in [NOW, NOW + std::time::Duration::from_secs(1)] {
            let crls = Crls::new(self.keystore.clone());
            let query = Query { asked_since, ..query(&self.pki) };
            let found = crls.look_up(&Server, &Standing, &query);
            no_error_is_left();
            match found {
                Ok(Found::Answer { evidence, .. }) if is_notes => {
                    assert_eq!(evidence.status, Status::Good);
                }
                Ok(Found::Answer { evidence, .. }) => assert!(is_signed(&evidence)),
                Ok(Found::Busy) => panic!("nobody else is here"),
                Err(error) => assert!(!is_notes, "{error}"),
            }
        }
        for (file, contents) in &self.files {
            fs::write(file, contents).unwrap();
        }
    }
}

struct Server;

impl Http for Server {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        const TAG: &str = "\"one\"";
        for (_, value) in &request.headers {
            assert!(value.bytes().all(|b| b.is_ascii_graphic() || b == b' '), "{value:?}");
        }
        let has_it = request.headers.iter().any(|(n, v)| *n == "if-none-match" && v == TAG);
        Ok(Response {
            status: if has_it { 304 } else { 200 },
            headers: vec![("etag".into(), TAG.into())],
            body: if has_it { Vec::new() } else { LIST.to_vec() },
        })
    }
}

struct Standing;

impl Clock for Standing {
    fn now(&self) -> Time {
        NOW
    }
}
