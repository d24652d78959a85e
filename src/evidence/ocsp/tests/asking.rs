//! What is sent, and what is done with what comes.

use super::*;
use crate::clock::FakeClock;
use crate::evidence::Status;
use crate::fixture::der::tlv;
use crate::fixture::ocsp::status_only;
use crate::http::HttpError;

#[test]
fn asks_by_post() {
    let world = World::new();
    let clock = FakeClock::at(NOW);
    let http = FakeHttp::new(|_, request: &Request| {
        clock.advance(Duration::from_secs(2));
        Ok(ok(world.good().with_nonce(nonce_of(&request.body).unwrap()).der()))
    });
    let query = Query { nonce: Nonce::Required, ..world.query() };
    let answer = ask(&http, &clock, &query).unwrap();
    assert_eq!(answer.evidence.status, Status::Good);
    assert_eq!(answer.evidence.checked_at, NOW, "when it was asked, not when it was answered");
    assert_eq!(verify(&answer.der, &world.query(), None, NOW).unwrap().status, Status::Good);
    let [request] = &http.seen()[..] else { panic!("one request") };
    assert_eq!((request.method, request.url.as_str()), (Method::Post, URL));
    assert_eq!(request.headers[0], ("content-type", "application/ocsp-request".into()));
    assert_eq!(request.headers[1], ("accept", "application/ocsp-response".into()));
    assert_eq!((request.limit, request.timeout, request.redirects), (65536, TIMEOUT, 3));
    assert!(OcspRequest::from_der(&request.body).is_ok());
    let id = CertId::sha1(&world.leaf.cert, &world.ca.cert);
    let contains = |part: &[u8]| request.body.windows(part.len()).any(|w| w == part);
    assert!(contains(&id.name_hash) && contains(&id.key_hash) && contains(&tlv(2, &id.serial)));
}

#[test]
fn nonces_are_sent_and_differ() {
    let world = World::new();
    let clock = FakeClock::at(NOW);
    let nonce = |nonce| {
        let http = FakeHttp::new(|_, _| Ok(ok(world.good().der())));
        let _ = ask(&http, &clock, &Query { nonce, ..world.query() });
        nonce_of(&http.seen()[0].body).map(<[u8]>::to_vec)
    };
    assert_eq!(nonce(Nonce::Off), None);
    let (first, second) = (nonce(Nonce::On).unwrap(), nonce(Nonce::Required).unwrap());
    assert_ne!(first, second);
}

#[test]
fn get_only_where_post_is_refused() {
    let world = World::new();
    for code in 200..=599 {
        let retried =
            matches!(code, 300..=599) && ![401, 407, 408, 429, 502, 503, 504].contains(&code);
        let clock = FakeClock::at(NOW);
        let http = FakeHttp::new(|n, _| {
            clock.advance(Duration::from_secs(4));
            Ok(if n == 1 { status(code) } else { ok(world.good().der()) })
        });
        let answer = ask(&http, &clock, &world.query());
        let seen = http.seen();
        assert_eq!(answer.is_ok(), retried, "{code}");
        assert_eq!(seen.len(), 1 + usize::from(retried), "{code}");
        if let Some(get) = seen.get(1) {
            assert_eq!((get.method, get.body.len()), (Method::Get, 0));
            assert_eq!(get.headers, [("accept", "application/ocsp-response".to_string())]);
            assert_eq!(get.timeout, Duration::from_secs(6), "what is left");
            let request = request_of_url(&get.url);
            assert!(OcspRequest::from_der(&request).is_ok());
            assert_eq!(nonce_of(&request), None, "a pre-produced answer has none");
            assert_eq!(answer.unwrap().evidence.checked_at, NOW);
        }
    }
}

#[test]
fn get_carries_a_nonce_that_is_required() {
    let world = World::new();
    let http = FakeHttp::new(|n, request: &Request| {
        Ok(match n {
            1 => status(405),
            _ => {
                let nonce = nonce_of(&request_of_url(&request.url)).unwrap().to_vec();
                ok(world.good().with_nonce(&nonce).der())
            }
        })
    });
    let query = Query { nonce: Nonce::Required, ..world.query() };
    assert!(ask(&http, &FakeClock::at(NOW), &query).is_ok());
}

#[test]
fn no_get_without_time_left_or_after_no_answer() {
    let world = World::new();
    let clock = FakeClock::at(NOW);
    let slow = FakeHttp::new(|_, _| {
        clock.advance(TIMEOUT);
        Ok(status(405))
    });
    let error = ask(&slow, &clock, &world.query()).unwrap_err();
    let expected = "ocsp: HTTP status 405 to POST, source=http://ocsp.example";
    assert_eq!(error.to_string(), expected);
    assert_eq!(slow.seen().len(), 1);
    let table = [
        (HttpError::Timeout, "ocsp: timed out, source=http://ocsp.example"),
        (
            HttpError::Io("connection refused".into()),
            "ocsp: connection refused, source=http://ocsp.example",
        ),
        (
            HttpError::TooLarge(65536),
            "ocsp: response is larger than 65536 bytes, source=http://ocsp.example",
        ),
    ];
    for (error, expected) in table {
        let http = FakeHttp::new(|_, _| Err(error.clone()));
        let failed = ask(&http, &FakeClock::at(NOW), &world.query()).unwrap_err();
        assert_eq!(failed.to_string(), expected);
        assert_eq!(failed.retry_after(), None);
        assert_eq!(http.seen().len(), 1);
    }
}

#[test]
fn a_status_200_is_the_answer() {
    let world = World::new();
    for body in [b"junk".to_vec(), status_only(1), world.good().der_badly_signed()] {
        let http = FakeHttp::new(|_, _| Ok(ok(body.clone())));
        assert!(ask(&http, &FakeClock::at(NOW), &world.query()).is_err());
        assert_eq!(http.seen().len(), 1);
    }
}

#[test]
fn an_error_told_under_an_http_error() {
    let world = World::new();
    let table = [
        (400, status_only(1), "responder says malformedRequest", 1),
        (500, status_only(2), "responder says internalError", 1),
        (401, status_only(6), "responder says unauthorized: it does not know the certificate", 2),
        (500, world.good().der(), "HTTP status 500 to GET", 2),
        (503, world.good().der(), "HTTP status 503 to POST", 1),
        (404, b"<html>".to_vec(), "HTTP status 404 to GET", 2),
    ];
    for (code, body, expected, requests) in table {
        let http = FakeHttp::new(|_, _| Ok(Response { status: code, ..ok(body.clone()) }));
        let error = ask(&http, &FakeClock::at(NOW), &world.query()).unwrap_err();
        assert_eq!(error.fault.to_string(), expected);
        assert_eq!(http.seen().len(), requests, "{expected}");
    }
}

#[test]
fn when_to_ask_again() {
    let world = World::new();
    let secs = |s| Some(Duration::from_secs(s));
    let date = "Wed, 18 May 2033 03:35:20 GMT"; // NOW + 2 min
    let table = [
        (200, status_only(1), None, secs(60)),
        (200, status_only(1), Some("5"), secs(60)),
        (200, status_only(2), None, None),
        (200, status_only(2), Some("5"), secs(5)),
        (200, status_only(3), None, secs(10)),
        (200, status_only(3), Some("77"), secs(77)),
        (200, status_only(3), Some(date), secs(120)),
        (200, status_only(3), Some("Mon, 01 Jan 2001 00:00:00 GMT"), secs(1)),
        (200, status_only(3), Some("0"), secs(1)),
        (200, status_only(3), Some("99999999"), secs(3600)),
        (200, status_only(3), Some("99999999999999999999999"), secs(10)),
        (200, status_only(3), Some("soon"), secs(10)),
        (200, status_only(5), None, secs(60)),
        (200, status_only(6), None, None),
        (500, status_only(3), Some("8"), secs(8)),
        (503, vec![], Some("9"), secs(9)),
        (429, vec![], Some("10"), secs(10)),
        (503, vec![], None, None),
        (200, b"junk".to_vec(), Some("11"), None),
    ];
    for (code, body, header, expected) in table {
        let headers = header.map(|h| ("retry-after".to_string(), h.to_string()));
        let headers = headers.into_iter().collect();
        let response = Response { status: code, headers, body };
        let http = FakeHttp::new(|_, _| Ok(response.clone()));
        let error = ask(&http, &FakeClock::at(NOW), &world.query()).unwrap_err();
        assert_eq!(error.retry_after(), expected, "{error} {header:?}");
    }
}

#[test]
fn urls_for_get() {
    let request = [0xfb, 0xef, 0xff, 0x00]; // base64 "++//AA=="
    let table = [
        ("http://a", "http://a/%2B%2B%2F%2FAA%3D%3D"),
        ("http://a/", "http://a/%2B%2B%2F%2FAA%3D%3D"),
        ("http://a/ocsp", "http://a/ocsp/%2B%2B%2F%2FAA%3D%3D"),
        ("http://a/ocsp/", "http://a/ocsp/%2B%2B%2F%2FAA%3D%3D"),
    ];
    for (url, expected) in table {
        assert_eq!(get_url(url, &request), expected);
    }
}

#[test]
fn causes_are_one_bounded_line() {
    let long = format!("http://{}\r\n", "x".repeat(5000));
    let error = OcspError { url: long, fault: Fault::Http(HttpError::Io("a\nb".repeat(5000))) };
    let text = error.to_string();
    assert!(text.len() < 600 && !text.contains(['\r', '\n']), "{text}");
    assert!(text.starts_with("ocsp: a b") && text.contains("source=http://xxx"));
}

/// A pre-produced answer has no nonce, and neither has the GET that finds it: who requires one is
/// served by such responders in no case.
#[test]
fn nonces_by_get() {
    let world = World::new();
    const MISSING: &str = "response does not carry the nonce of the request";
    const DIFFERS: &str = "nonce of the response is not that of the request";
    // By nonce: whether GET carries one; answers with none, ours, another's.
    let table = [
        (Nonce::On, false, ["Good", "Good", "Good"]),
        (Nonce::Off, false, ["Good", "Good", "Good"]),
        (Nonce::Required, true, [MISSING, "Good", DIFFERS]),
    ];
    for (nonce, is_sent, expected) in table {
        for (answered, expected) in ["none", "ours", "another"].into_iter().zip(expected) {
            let http = FakeHttp::new(|n, request: &Request| {
                if n == 1 {
                    return Ok(status(405));
                }
                let sent = nonce_of(&request_of_url(&request.url)).map(<[u8]>::to_vec);
                assert_eq!(sent.is_some(), is_sent, "{nonce:?}");
                let reply = match answered {
                    "ours" => world.good().with_nonce(&sent.unwrap_or(SENT.to_vec())),
                    "another" => world.good().with_nonce(&[8; 32]),
                    _ => world.good(),
                };
                Ok(ok(reply.der()))
            });
            let query = Query { nonce, ..world.query() };
            let answer = ask(&http, &FakeClock::at(NOW), &query);
            let found = text(answer.map(|a| a.evidence).map_err(|e| e.fault));
            assert_eq!(found, expected, "{nonce:?} {answered}");
        }
    }
}

#[test]
fn who_knows_sha256_only_is_asked_with_it_once() {
    let world = World::new();
    let id = CertId::sha256(&world.leaf.cert, &world.ca.cert);
    let by_sha256 = |r: &Request| r.body.windows(32).any(|w| w == id.key_hash);
    // The first answer, the second, what comes of it, and how many requests.
    let unauthorized = "responder says unauthorized: it does not know the certificate";
    let table: &[(Vec<u8>, Vec<u8>, &str, usize)] = &[
        (status_only(6), world.with_id(|i| *i = id.clone()), "Good", 2),
        (status_only(6), world.good().der(), "Good", 2), // cfssl's answer
        (status_only(6), status_only(6), unauthorized, 2),
        (status_only(6), status_only(3), unauthorized, 2),
        (status_only(6), world.good().der_badly_signed(), unauthorized, 2),
        (status_only(1), world.good().der(), "responder says malformedRequest", 1),
        (status_only(2), world.good().der(), "responder says internalError", 1),
        (status_only(3), world.good().der(), "responder says tryLater", 1),
    ];
    for (first, second, expected, requests) in table {
        let clock = FakeClock::at(NOW);
        let http = FakeHttp::new(|n, request: &Request| {
            assert_eq!(by_sha256(request), n == 2);
            clock.advance(Duration::from_secs(3));
            Ok(ok(if n == 1 { first } else { second }.clone()))
        });
        let answer = ask(&http, &clock, &world.query());
        if let Ok(answer) = &answer {
            assert_eq!(answer.evidence.checked_at, NOW);
        }
        assert_eq!(text(answer.map(|a| a.evidence).map_err(|e| e.fault)), *expected);
        let seen = http.seen();
        assert_eq!(seen.len(), *requests, "{expected}");
        if let Some(second) = seen.get(1) {
            assert_eq!(second.timeout, Duration::from_secs(7), "what is left");
            assert_ne!(nonce_of(&second.body), nonce_of(&seen[0].body));
        }
    }
    let clock = FakeClock::at(NOW);
    let slow = FakeHttp::new(|_, _| {
        clock.advance(TIMEOUT);
        Ok(ok(status_only(6)))
    });
    assert!(ask(&slow, &clock, &world.query()).is_err());
    assert_eq!(slow.seen().len(), 1, "no time left");
}
