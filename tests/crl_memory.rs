//! What a CRL of 70 MB costs: memory, and time for the first look, for "unchanged", for a second
//! certificate, and for another worker.

mod lab;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cert_autofetch::clock::{SystemClock, Time};
use cert_autofetch::evidence::Status;
use cert_autofetch::evidence::crl::{Crls, Found, Query};
use cert_autofetch::facts::CertFacts;
use cert_autofetch::http::network::NetworkHttp;
use cert_autofetch::keystore::Keystore;
use cert_autofetch::settings::WaySettings;
use lab::clock::now;
use lab::pki::{Identity, KeyType, Profile};
use lab::{der, ocsp};
use openssl::hash::MessageDigest;
use openssl::sign::Signer;

const SIZE: usize = 70_000_000;
const MOST_MEMORY: u64 = 16 << 20;

#[test]
#[ignore = "needs 150 MB of disk and a minute: scripts/test.sh"]
fn a_large_crl_costs_little_memory() {
    let dir = tempfile::tempdir().expect("folder");
    let keystore = Keystore::create(&dir.path().join("keystore"), None).expect("keystore");
    let list = dir.path().join("list.crl");
    let url = serve(list.clone());

    let ca = Identity::self_signed(&Profile { key: KeyType::Rsa2048, ..Profile::authority("CA") });
    let leaf = |serial: &[u8]| {
        let profile = Profile { serial: Some(serial.to_vec()), ..Profile::server(&["a.example"]) };
        CertFacts::from_der(&ca.issue(&profile).cert.to_der().expect("DER")).expect("facts")
    };
    // Serials of the list are even.
    let (listed, good) = (leaf(&serial(2_000_000)), leaf(&serial(2_000_001)));
    write_crl(&list, &ca);

    let http = NetworkHttp::new(&WaySettings::default()).expect("HTTP client");
    let look_up = |what: &str, crls: &Crls, facts: &CertFacts, asked_since: Time, sent: bool| {
        let timeout = Duration::from_secs(600);
        let (issuer, is_ca, url) = (&ca.cert, false, url.as_str());
        let query = Query { facts, is_ca, issuer, url, asked_since, timeout };
        let memory = Memory::measure();
        let begin = Instant::now();
        let found = crls.look_up(&http, &SystemClock, &query).expect("an answer");
        let Found::Answer { evidence, fetched } = found else { panic!("busy") };
        let (time, grown) = (begin.elapsed(), memory.growth());
        println!("{what}: {} ms, {} KB more at the peak", time.as_millis(), grown / 1024);
        assert!(grown < MOST_MEMORY, "{what}: {grown} bytes");
        assert_eq!(fetched, sent, "{what}");
        evidence.status
    };
    let past = Time::from_secs(0);
    let (first, second) = (Crls::new(keystore.clone()), Crls::new(keystore));
    let later = || Time::from_secs(now() + 1);
    let revoked = |status| matches!(status, Status::Revoked { .. });
    println!("CRL of {} bytes", list.metadata().expect("size").len());
    assert!(revoked(look_up("downloaded", &first, &listed, past, true)));
    assert_eq!(look_up("another certificate", &first, &good, past, false), Status::Good);
    assert!(revoked(look_up("again", &first, &listed, past, false)));
    assert!(revoked(look_up("unchanged (304)", &first, &listed, later(), true)));
    assert!(revoked(look_up("another worker", &second, &listed, past, false)));
    assert_eq!(look_up("another certificate", &second, &good, past, false), Status::Good);
}

/// The peak of this process's memory since a moment.
struct Memory(u64);

impl Memory {
    fn measure() -> Memory {
        // proc(5): resets VmHWM to what is in use.
        std::fs::write("/proc/self/clear_refs", "5").expect("clear_refs");
        Memory(status("VmRSS:"))
    }

    fn growth(&self) -> u64 {
        status("VmHWM:").saturating_sub(self.0)
    }
}

/// A line of /proc/self/status, in bytes.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = text.lines().find_map(|l| l.strip_prefix(key)).expect("line of status");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("number");
    kilobytes * 1024
}

/// 18 bytes, as public CAs have them.
fn serial(n: u64) -> [u8; 18] {
    let mut serial = [0x5a; 18];
    serial[10..].copy_from_slice(&n.to_be_bytes());
    serial
}

/// Entries are made one at a time: the generator must not take the memory that is measured.
fn write_crl(path: &Path, ca: &Identity) {
    let algorithm = ocsp::algorithm(ca);
    let name = ca.cert.subject_name().to_der().expect("DER");
    let times = [der::utc_time(now() - 60), der::utc_time(now() + 86_400)].concat();
    let head = [der::integer(&[1]), algorithm.clone(), name, times].concat();
    let reason = der::extension("2.5.29.21", false, &der::element(der::ENUMERATED, &[4]));
    let rest = [der::utc_time(now() - 3600), der::sequence(&[reason])].concat();
    let entry = |n: u64| der::sequence(&[der::integer(&serial(2 * n)), rest.clone()]);
    let count = (SIZE / entry(0).len()) as u64;
    let number = der::extension("2.5.29.20", false, &der::integer(&[7]));
    let tail = der::explicit(0, &der::sequence(&[number]));

    let list = header(count as usize * entry(0).len());
    let tbs = head.len() + list.len() + count as usize * entry(0).len() + tail.len();
    let (tbs_header, signature) = (header(tbs), der::bits(&[0; 256]));
    let whole = header(tbs_header.len() + tbs + algorithm.len() + signature.len());

    let mut file = BufWriter::new(File::create(path).expect("file"));
    file.write_all(&whole).expect("write");
    let mut signer = Signer::new(MessageDigest::sha256(), &ca.key).expect("signer");
    let mut put = |bytes: &[u8]| {
        signer.update(bytes).expect("digest");
        file.write_all(bytes).expect("write");
    };
    put(&[tbs_header, head, list].concat());
    (0..count).for_each(|n| put(&entry(n)));
    put(&tail);
    let signature = signer.sign_to_vec().expect("signature");
    file.write_all(&[algorithm, der::bits(&signature)].concat()).expect("write");
    file.flush().expect("write");
}

/// Of a SEQUENCE.
fn header(length: usize) -> Vec<u8> {
    [&[0x30, 0x84][..], &(length as u32).to_be_bytes()].concat()
}

/// Serves the file from the disk, at the URL that is returned, till the process ends.
fn serve(path: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let url = format!("http://{}/list.crl", listener.local_addr().expect("address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(&stream.expect("connection"), &path).expect("answer");
        }
    });
    url
}

fn answer(mut stream: &TcpStream, path: &Path) -> std::io::Result<()> {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head: Vec<_> = lines.take_while(|l| !l.is_empty()).collect();
    if head.iter().any(|l| l.to_ascii_lowercase().starts_with("if-none-match")) {
        return stream.write_all(b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n");
    }
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let head = format!("Content-Length: {length}\r\nETag: \"one\"\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes())?;
    std::io::copy(&mut file, &mut stream)?;
    Ok(())
}
