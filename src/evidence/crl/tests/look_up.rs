//! Fetching, keeping and asking again.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::clock::FakeClock;
use crate::http::HttpError;

type Server<'a> = dyn Fn(usize, &Request) -> Result<Response, HttpError> + Send + Sync + 'a;

/// Answers by a function of the number of the request and the request; remembers them.
struct FakeHttp<'a> {
    answer: Box<Server<'a>>,
    seen: Mutex<Vec<Request>>,
}

impl<'a> FakeHttp<'a> {
    fn new(
        answer: impl Fn(usize, &Request) -> Result<Response, HttpError> + Send + Sync + 'a,
    ) -> FakeHttp<'a> {
        FakeHttp { answer: Box::new(answer), seen: Mutex::default() }
    }

    /// Always the same list, with an ETag.
    fn serving(der: Vec<u8>) -> FakeHttp<'a> {
        FakeHttp::new(move |_, _| Ok(ok(der.clone())))
    }

    fn silent() -> FakeHttp<'a> {
        FakeHttp::new(|_, request| panic!("unforeseen: {request:?}"))
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

impl Http for FakeHttp<'_> {
    fn send(&self, request: &Request) -> Result<Response, HttpError> {
        let number = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(request.clone());
            seen.len()
        };
        (self.answer)(number, request)
    }
}

fn ok(body: Vec<u8>) -> Response {
    let headers = vec![
        ("etag".to_string(), "\"one\"".to_string()),
        ("last-modified".to_string(), "Wed, 18 May 2033 03:30:00 GMT".to_string()),
    ];
    Response { status: 200, headers, body }
}

fn status(status: u16) -> Response {
    Response { status, ..Response::default() }
}

/// A keystore and a clock; each [`Crls`] of it is another worker.
struct Bench {
    _dir: tempfile::TempDir,
    keystore: Keystore,
    clock: FakeClock,
    world: World,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let keystore = Keystore::create(&dir.path().join("keystore"), None).unwrap();
        Bench { _dir: dir, keystore, clock: FakeClock::at(NOW), world: World::new() }
    }

    fn worker(&self) -> Crls {
        Crls::new(self.keystore.clone())
    }

    /// Asks for what is no older than now.
    fn look_up(&self, crls: &Crls, http: &FakeHttp) -> Result<Found, CrlError> {
        let query = Query { asked_since: self.clock.now(), ..self.world.query() };
        crls.look_up(http, &self.clock, &query)
    }

    fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// What lies in `crls`, sorted, by what the names end with.
    fn files(&self) -> Vec<String> {
        let dir = std::fs::read_dir(self.keystore.dir().join("crls")).unwrap();
        let ending = |name: String| name.trim_start_matches('.')[64..].to_string();
        let mut names: Vec<_> =
            dir.map(|e| ending(e.unwrap().file_name().into_string().unwrap())).collect();
        names.sort();
        names
    }

    fn path(&self, ending: &str) -> std::path::PathBuf {
        let dir = std::fs::read_dir(self.keystore.dir().join("crls")).unwrap();
        let mut paths = dir.map(|e| e.unwrap().path());
        paths.find(|p| p.to_str().unwrap().ends_with(ending)).unwrap()
    }
}

/// Status, age of the answer in seconds, whether it was fetched; or the error.
fn summary(found: Result<Found, CrlError>) -> String {
    match found {
        Ok(Found::Busy) => "busy".into(),
        Ok(Found::Answer { evidence, fetched }) => {
            let asked = evidence.checked_at.secs() - NOW.secs();
            let how = if fetched { "fetched" } else { "stored" };
            format!("{} {asked} {how}", text(Ok(evidence)))
        }
        Err(error) => error.fault.to_string(),
    }
}

#[test]
fn what_is_asked_for() {
    let bench = Bench::new();
    let http = FakeHttp::serving(bench.world.crl().der());
    let crls = bench.worker();
    assert_eq!(summary(bench.look_up(&crls, &http)), "Good 0 fetched");
    bench.later(10);
    assert_eq!(summary(bench.look_up(&crls, &http)), "Good 10 fetched");
    let seen = http.seen();
    assert_eq!((seen[0].method, seen[0].url.as_str()), (Method::Get, URL));
    assert_eq!((seen[0].redirects, seen[0].limit), (3, 128 << 20));
    assert_eq!(seen[0].timeout, Duration::from_secs(60));
    assert_eq!(seen[0].headers.len(), 1, "{:?}", seen[0].headers);
    let conditions = [
        ("if-none-match", "\"one\"".to_string()),
        ("if-modified-since", "Wed, 18 May 2033 03:30:00 GMT".to_string()),
    ];
    assert_eq!(seen[1].headers[1..], conditions);
    assert_eq!(bench.files(), [".crl", ".json", ".lock"]);
}

#[test]
fn a_stored_one_is_not_asked_for_again() {
    let bench = Bench::new();
    let http = FakeHttp::serving(bench.world.crl().with(&[revoked(SERIAL, Some(1))]).der());
    let crls = bench.worker();
    assert_eq!(summary(bench.look_up(&crls, &http)), "keyCompromise 0 fetched");
    bench.later(60);
    // The same worker, one that was just started, and one whose clock is a bit behind.
    let silent = FakeHttp::silent();
    for crls in [crls, bench.worker()] {
        let found = crls.look_up(&silent, &bench.clock, &bench.world.query());
        assert_eq!(summary(found), "keyCompromise 0 stored");
    }
    bench.clock.set_back(Duration::from_secs(360));
    let found = bench.worker().look_up(&silent, &bench.clock, &bench.world.query());
    assert_eq!(summary(found), "keyCompromise 0 stored");
    // The clock was set back further: nobody knows how old it is.
    bench.clock.set_back(Duration::from_secs(1));
    let found = bench.worker().look_up(&http, &bench.clock, &bench.world.query());
    assert_eq!(summary(found), "keyCompromise -301 fetched");
}

#[test]
fn unchanged_counts_as_asked_for_while_it_is_current() {
    let bench = Bench::new();
    let crl = bench.world.crl().der();
    let http = FakeHttp::new(|n, _| Ok(if n == 1 { ok(crl.clone()) } else { status(304) }));
    let crls = bench.worker();
    for (wait, expected) in [
        (0, "Good 0 fetched"),
        (1000, "Good 1000 fetched"),
        (2900, "Good 3900 fetched"), // nextUpdate and the skew
        (1, "CRL is stale since 2033-05-18T04:33:20Z"),
    ] {
        bench.later(wait);
        assert_eq!(summary(bench.look_up(&crls, &http)), expected);
    }
    // Nor does another worker find the stale one.
    let found = bench.worker().look_up(&http, &bench.clock, &bench.world.query());
    assert_eq!(summary(found), "CRL is stale since 2033-05-18T04:33:20Z");
    assert_eq!(http.seen().len(), 5);
    // What was not asked for conditionally can't be unchanged.
    let other = Bench::new();
    let http = FakeHttp::new(|_, _| Ok(status(304)));
    assert_eq!(summary(other.look_up(&other.worker(), &http)), "HTTP status 304");
}

#[test]
fn a_newer_one_takes_its_place_and_an_older_one_does_not() {
    let bench = Bench::new();
    let number = |n| (NUMBER, false, integer(&[n]));
    let crl = |age: i64, n: u8, listed: bool| {
        let (id, critical, value) = number(n);
        let crl = bench.world.crl().times(-age, Some(3600)).extended(&[(id, critical, &value)]);
        let entries = if listed { vec![revoked(SERIAL, Some(1))] } else { vec![] };
        crl.with(&entries).der()
    };
    // Age, number, listed; what is found.
    let table = [
        (100, 5, false, "Good 0 fetched"),
        (50, 6, true, "keyCompromise 1 fetched"),
        (100, 5, false, "keyCompromise 2 fetched"), // lags
        (50, 5, false, "keyCompromise 3 fetched"),
        (50, 6, false, "Good 4 fetched"), // as new as that: what is sent
        (50, 7, true, "keyCompromise 5 fetched"),
        (40, 1, false, "Good 6 fetched"),
    ];
    let http = FakeHttp::new(|n, _| {
        let (age, number, listed, _) = table[n - 1];
        Ok(ok(crl(age, number, listed)))
    });
    let crls = bench.worker();
    for row in table {
        assert_eq!(summary(bench.look_up(&crls, &http)), row.3, "{row:?}");
        bench.later(1);
    }
    // Also when what lags has ended.
    let bench = Bench::new();
    let (current, ended) =
        (bench.world.crl().der(), bench.world.crl().times(-2000, Some(-1000)).der());
    let http = FakeHttp::new(|n, _| Ok(ok(if n == 2 { ended.clone() } else { current.clone() })));
    let crls = bench.worker();
    assert_eq!(summary(bench.look_up(&crls, &http)), "Good 0 fetched");
    bench.later(1);
    assert_eq!(summary(bench.look_up(&crls, &http)), "Good 1 fetched");
    let alone = Bench { world: World::of(bench.world.ca.clone()), ..Bench::new() };
    let http = FakeHttp::serving(ended.clone());
    let stale = "CRL is stale since 2033-05-18T03:16:40Z";
    assert_eq!(summary(alone.look_up(&alone.worker(), &http)), stale);

    // When the newer one has ended the other is what there is.
    let bench = Bench::new();
    let ends = bench.world.crl().times(-50, Some(10)).der();
    let goes_on = bench.world.crl().times(-60, Some(3600)).der();
    let http = FakeHttp::new(|n, _| Ok(ok(if n == 1 { ends.clone() } else { goes_on.clone() })));
    let crls = bench.worker();
    for (wait, this_update) in [(0, -50), (1, -50), (310, -60)] {
        bench.later(wait);
        let Found::Answer { evidence, .. } = bench.look_up(&crls, &http).unwrap() else { panic!() };
        assert_eq!(evidence.this_update, at(this_update), "{wait}");
    }
}

#[test]
fn failures_change_nothing() {
    let bench = Bench::new();
    let good = bench.world.crl().with(&[revoked(SERIAL, Some(1))]);
    let stranger = Crl::new(&root("CA")).times(-1, Some(3600)).der();
    let too_early = bench.world.crl().times(600, Some(3600)).der();
    let whole = good.der();
    let table: Vec<(Result<Response, HttpError>, &str)> = vec![
        (Ok(status(404)), "HTTP status 404"),
        (Ok(Response { status: 500, ..ok(whole.clone()) }), "HTTP status 500"),
        (Ok(status(206)), "HTTP status 206"),
        (Err(HttpError::Timeout), "timed out"),
        (Err(HttpError::TooLarge(128 << 20)), "CRL is larger than 134217728 bytes"),
        (Ok(ok(vec![])), "not a CRL: empty"),
        (Ok(ok(whole[..whole.len() - 1].to_vec())), "not a CRL: truncated"),
        (Ok(ok(good.der_badly_signed())), "bad signature"),
        (Ok(ok(stranger)), "bad signature"),
        (Ok(ok(too_early)), "CRL is not valid before 2033-05-18T03:43:20Z"),
    ];
    let http = FakeHttp::new(|n, _| match n {
        1 => Ok(ok(whole.clone())),
        n => table[n - 2].0.clone(),
    });
    let crls = bench.worker();
    assert_eq!(summary(bench.look_up(&crls, &http)), "keyCompromise 0 fetched");
    bench.later(1);
    for (_, expected) in &table {
        assert_eq!(summary(bench.look_up(&crls, &http)), *expected);
        assert_eq!(bench.files(), [".crl", ".json", ".lock"], "{expected}");
        let stored = bench.worker().look_up(&http, &bench.clock, &bench.world.query());
        assert_eq!(summary(stored), "keyCompromise 0 stored", "{expected}");
    }
}

#[test]
fn when_to_ask_again() {
    let bench = Bench::new();
    let secs = |s| Some(Duration::from_secs(s));
    for (code, header, expected) in [
        (503, Some("7"), secs(7)),
        (429, Some("Wed, 18 May 2033 03:35:20 GMT"), secs(120)),
        (503, Some("0"), secs(1)),
        (503, Some("99999999"), secs(3600)),
        (503, Some("soon"), None),
        (404, None, None),
    ] {
        let http = FakeHttp::new(|_, _| {
            let headers = header.map(|h| ("retry-after".to_string(), h.to_string()));
            Ok(Response { headers: headers.into_iter().collect(), ..status(code) })
        });
        let error = bench.look_up(&bench.worker(), &http).unwrap_err();
        assert_eq!(error.retry_after(), expected, "{code} {header:?}");
        assert_eq!(error.to_string(), format!("crl: HTTP status {code}, source={URL}"));
    }
}

#[test]
fn one_fetches_and_the_others_wait() {
    let bench = Bench::new();
    let crl = bench.world.crl().der();
    let (first, other) = (bench.worker(), bench.worker());
    let busy = AtomicUsize::new(0);
    let http = FakeHttp::new(|_, _| {
        // While it is on its way: another thread of this worker, and another worker.
        for crls in [&first, &other] {
            assert_eq!(summary(bench.look_up(crls, &FakeHttp::silent())), "busy");
            busy.fetch_add(1, Ordering::SeqCst);
        }
        Ok(ok(crl.clone()))
    });
    assert_eq!(summary(bench.look_up(&first, &http)), "Good 0 fetched");
    assert_eq!(busy.load(Ordering::SeqCst), 2);
    for crls in [&first, &other] {
        assert_eq!(summary(bench.look_up(crls, &FakeHttp::silent())), "Good 0 stored");
    }
}

#[test]
fn what_another_worker_fetched_is_seen() {
    let bench = Bench::new();
    let (one, other) = (bench.worker(), bench.worker());
    let good = FakeHttp::serving(bench.world.crl().der());
    assert_eq!(summary(bench.look_up(&one, &good)), "Good 0 fetched");
    bench.later(1);
    let revoking = bench.world.crl().with(&[revoked(SERIAL, Some(1))]).times(-5, Some(3600)).der();
    let found = bench.look_up(&other, &FakeHttp::serving(revoking));
    assert_eq!(summary(found), "keyCompromise 1 fetched");
    let found = one.look_up(&FakeHttp::silent(), &bench.clock, &bench.world.query());
    assert_eq!(summary(found), "keyCompromise 1 stored");
}

#[test]
fn a_damaged_file_is_dropped_and_fetched_anew() {
    let bench = Bench::new();
    let revoking = bench.world.crl().with(&[revoked(SERIAL, Some(1))]).der();
    let http = FakeHttp::serving(revoking.clone());
    let down = FakeHttp::new(|_, _| Err(HttpError::Timeout));
    assert_eq!(summary(bench.look_up(&bench.worker(), &http)), "keyCompromise 0 fetched");
    let stranger = Crl::new(&root("CA")).der();
    for damage in [b"".to_vec(), revoking[..100].to_vec(), stranger] {
        std::fs::write(bench.path(".crl"), &damage).unwrap();
        let before = http.seen().len();
        assert_eq!(summary(bench.look_up(&bench.worker(), &http)), "keyCompromise 0 fetched");
        assert_eq!(http.seen()[before].headers.len(), 1, "not if unchanged");
        // The network is down: it is gone all the same.
        std::fs::write(bench.path(".crl"), &damage).unwrap();
        assert_eq!(summary(bench.look_up(&bench.worker(), &down)), "timed out");
        assert_eq!(bench.files(), [".lock"]);
        bench.look_up(&bench.worker(), &http).unwrap();
    }
    // So is what is known about it.
    let json = std::fs::read_to_string(bench.path(".json")).unwrap();
    let headers = json.replace("\\\"one\\\"", "\\r\\nx: y");
    assert_ne!(json, headers);
    for (damage, conditions) in [("{".to_string(), 0), (String::new(), 0), (headers, 1)] {
        std::fs::write(bench.path(".json"), &damage).unwrap();
        bench.later(1);
        let found = summary(bench.look_up(&bench.worker(), &http));
        assert!(found.starts_with("keyCompromise"), "{damage}: {found}");
        assert_eq!(http.seen().last().unwrap().headers.len(), 1 + conditions, "{damage}");
    }
}

#[test]
fn one_that_is_about_others_is_kept_for_them() {
    let bench = Bench::new();
    let users = tlv(0x30, &[0x81, 1, 0xff]);
    let http = FakeHttp::serving(bench.world.crl().extended(&[(POINT, true, &users)]).der());
    let crls = bench.worker();
    let of_ca = Query { is_ca: true, ..bench.world.query() };
    const USERS: &str = "CRL proves nothing here: it is for certificates of users only";
    assert_eq!(summary(crls.look_up(&http, &bench.clock, &of_ca)), USERS);
    assert_eq!(summary(crls.look_up(&http, &bench.clock, &of_ca)), USERS);
    assert_eq!(summary(crls.look_up(&http, &bench.clock, &bench.world.query())), "Good 0 stored");
    assert_eq!(http.seen().len(), 1);
}

#[test]
fn another_issuer_behind_the_same_url() {
    let bench = Bench::new();
    let other = World::of(root("CA"));
    let http = FakeHttp::serving(bench.world.crl().der());
    let crls = bench.worker();
    assert_eq!(summary(bench.look_up(&crls, &http)), "Good 0 fetched");
    let query = Query { issuer: &other.ca.cert, ..other.query() };
    assert_eq!(summary(crls.look_up(&http, &bench.clock, &query)), "bad signature");
    // That of the first is still there.
    let silent = FakeHttp::silent();
    let found = crls.look_up(&silent, &bench.clock, &bench.world.query());
    assert_eq!(summary(found), "Good 0 stored");
}

#[test]
fn a_thousand_entries_cost_few_walks() {
    let bench = Bench::new();
    let listed: Vec<_> =
        (0..500_u32).map(|n| revoked(&(2 * n).to_be_bytes()[2..], Some(4))).collect();
    let http = FakeHttp::serving(bench.world.crl().with(&listed).der());
    let crls = bench.worker();
    let mut facts = bench.world.facts.clone();
    let mut ask = |n: u16| {
        facts.serial = crate::facts::Serial::from_bytes(&n.to_be_bytes());
        let query = Query { facts: &facts, ..bench.world.query() };
        text(match crls.look_up(&http, &bench.clock, &query).unwrap() {
            Found::Answer { evidence, .. } => Ok(evidence),
            Found::Busy => panic!("busy"),
        })
    };
    for n in 0..1000 {
        let expected = if n % 2 == 0 { "superseded" } else { "Good" };
        assert_eq!(ask(n), expected, "{n}");
    }
    assert_eq!(http.seen().len(), 1);
    // All of them are remembered: without the file's contents nobody can tell.
    let path = bench.path(".crl");
    let (file, size) = (std::fs::File::open(&path).unwrap(), path.metadata().unwrap().len());
    let modified = file.metadata().unwrap().modified().unwrap();
    std::fs::write(&path, vec![0; size as usize]).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    for n in 0..1000 {
        let expected = if n % 2 == 0 { "superseded" } else { "Good" };
        assert_eq!(ask(n), expected, "{n}");
    }
    assert_eq!(http.seen().len(), 1);
}

#[test]
fn what_nobody_needs_any_more_is_removed() {
    let bench = Bench::new();
    let crl = |next_update| bench.world.crl().times(-60, Some(next_update)).der();
    let look_up = |crls: &Crls, url: &str, next_update: i64| {
        let http = FakeHttp::serving(crl(next_update));
        let query = Query { url, asked_since: bench.clock.now(), ..bench.world.query() };
        summary(crls.look_up(&http, &bench.clock, &query))
    };
    let crls = bench.worker();
    let day = 86_400_i64;
    assert_eq!(look_up(&crls, "http://a/stale", day), "Good 0 fetched");
    assert_eq!(look_up(&crls, "http://a/unused", 90 * day), "Good 0 fetched");
    assert_eq!(look_up(&crls, "http://a/used", 90 * day), "Good 0 fetched");
    let held = bench.keystore.try_lock_crl("http://a/coming").unwrap().unwrap();
    for junk in ["notes", &format!(".{}.crl.new", "0".repeat(64))] {
        std::fs::write(bench.keystore.dir().join("crls").join(junk), "").unwrap();
    }
    let there = |url: &str| bench.keystore.crl(url).unwrap().is_some();
    for (wait, stale, unused) in [(8 * day, true, true), (1, false, true), (22 * day, false, false)]
    {
        bench.later(wait as u64);
        assert!(look_up(&crls, "http://a/used", 90 * day).starts_with("Good"));
        assert_eq!((there("http://a/stale"), there("http://a/unused")), (stale, unused), "{wait}");
        bench.later(day as u64); // tidied once a day
    }
    drop(held);
    look_up(&crls, "http://a/used", 90 * day);
    let names = std::fs::read_dir(bench.keystore.dir().join("crls")).unwrap().count();
    assert_eq!(names, 4, "three of the one in use, and one that is not ours");
}
