use super::*;
use crate::ca::Issued;

#[test]
fn two_exchanges() {
    let scene = scene();
    let mut order = order("missing");
    let progress = scene.authorities().issue().step(&mut order, None).unwrap();
    // The same signature: ECDSA makes another one each time.
    let Progress::Issued(Issued { chain, key: None, .. }) = progress else {
        panic!("{progress:?}")
    };
    let chain = X509::stack_from_pem(&chain).unwrap();
    assert_eq!(chain.len(), 2, "without the root");
    assert!(chain[0].public_key().unwrap().public_eq(&KEY.with(Clone::clone)));
    assert_eq!(chain[1], scene.sub.cert);
    assert!(order.accepted);

    let sent = std::mem::take(&mut *scene.server.sent.lock().unwrap());
    let (get, post) = (&sent[0].1, &sent[1].1);
    assert_eq!((get.method, get.url.as_str()), (Method::Get, &*format!("{URL}/cacerts")));
    assert_eq!((post.method, post.url.as_str()), (Method::Post, &*format!("{URL}/simpleenroll")));
    for header in [
        ("authorization", "Basic bmdpbng6aHVzaA=="),
        ("content-type", "application/pkcs10"),
        ("content-transfer-encoding", "base64"),
    ] {
        assert!(post.headers.contains(&(header.0, header.1.into())), "{:?}", post.headers);
    }
    assert_eq!(*pkcs7::decode(&post.body).unwrap(), order.csr);
    assert!(post.body.split(|b| *b == b'\n').all(|line| line.len() <= 64));
    assert!(sent.iter().all(|(shown, r)| !shown && r.redirects == 0 && r.limit == LIMIT));
}

#[test]
fn chains() {
    let scene = scene();
    let KeyedLeaf { leaf, stranger } = keyed_leaf(&scene);
    let (root, sub) = (&scene.root.cert, &scene.sub.cert);
    let by_root = KEY.with(|key| scene.root.certify(&Spec::default(), key));
    // Delivered, known from /cacerts, and what is made of it.
    for (delivered, known, expected) in [
        (vec![&leaf], vec![root, sub], Ok(vec![&leaf, sub])),
        (vec![&leaf], vec![&stranger, sub, root], Ok(vec![&leaf, sub])),
        (vec![&leaf], vec![root], Ok(vec![&leaf])),
        (vec![&leaf, sub, root], vec![root], Ok(vec![&leaf, sub])),
        (vec![sub, &leaf], vec![root], Ok(vec![&leaf, sub])),
        (vec![&by_root], vec![sub, root], Ok(vec![&by_root, root])),
        (vec![&stranger], vec![root, sub], Err("no certificate for the key of the request")),
    ] {
        scene.answer(response(200, &[], &base64(&certs_only(&known))));
        scene.answer(response(200, &[], &base64(&certs_only(&delivered))));
        let mut order = order("missing");
        let result = scene.step(&mut order, None);
        assert!(order.accepted, "it counts, whatever came");
        match (result, expected) {
            (Ok(Progress::Issued(issued)), Ok(expected)) => {
                assert_eq!(issued, scene.chain(&expected).into());
            }
            (Err(error @ IssueError::Protocol { .. }), Err(cause)) => {
                assert!(error.to_string().contains(cause), "{error}");
            }
            (result, expected) => panic!("{result:?} {expected:?}"),
        }
    }
}

struct KeyedLeaf {
    leaf: X509,
    stranger: X509,
}

fn keyed_leaf(scene: &Scene) -> KeyedLeaf {
    KeyedLeaf { leaf: scene.leaf(), stranger: scene.sub.issue(Spec::default()).cert }
}

#[test]
fn an_approval_is_waited_for() {
    // What Retry-After says, and how long it is waited.
    for (header, seconds) in [
        (Some("120"), 120),
        (Some("Wed, 18 May 2033 03:43:20 GMT"), 600),
        (Some("Wed, 18 May 2033 03:00:00 GMT"), 1),
        (Some("0"), 1),
        (Some("9999999"), 86_400),
        (Some("soon"), 60),
        (None, 60),
    ] {
        let scene = scene();
        let mut order = order("missing");
        let headers: Vec<_> = header.map(|value| ("retry-after", value)).into_iter().collect();
        scene.authorities().answer(response(202, &headers, b"wait"));
        let progress = scene.step(&mut order, None).unwrap();
        assert_eq!(progress, Progress::Wait(Duration::from_secs(seconds)), "{header:?}");
        assert!(order.accepted);
        // The same again, and it is there.
        let bodies = || {
            let sent = scene.server.sent.lock().unwrap();
            sent.iter().map(|(_, r)| r.body.clone()).collect::<Vec<_>>()
        };
        let before = bodies();
        scene.server.sent.lock().unwrap().clear();
        let progress = scene.authorities().issue().step(&mut order, None).unwrap();
        assert!(matches!(progress, Progress::Issued(_)));
        assert_eq!(bodies(), before);
        assert_eq!(scene.sent(), ["cacerts", "simpleenroll"]);
    }
}

#[test]
fn the_old_certificate_speaks_for_the_new_one() {
    let old = bundle("a.example", NAMES, (-100, 100), Some("corp"));
    let refused = |status| response(status, &[("content-type", "text/plain")], b"no\n");
    let tls = || HttpError::Tls("alert certificate unknown".into());
    let io = || HttpError::Io("connection reset".into());
    type Answer = Result<Response, HttpError>;
    // Why it is renewed, the answers after /cacerts up to the last, and what is asked.
    let table: Vec<(&str, Vec<Answer>, &[&str])> = vec![
        ("renewal", vec![], &["simplereenroll*"]),
        ("requested", vec![], &["simplereenroll*"]),
        ("keyCompromise", vec![], &["simpleenroll"]),
        ("renewal", vec![Ok(refused(400))], &["simplereenroll*", "simpleenroll"]),
        ("renewal", vec![Ok(refused(401))], &["simplereenroll*", "simpleenroll"]),
        ("renewal", vec![Ok(refused(403))], &["simplereenroll*", "simpleenroll"]),
        ("renewal", vec![Ok(refused(404))], &["simplereenroll*", "simpleenroll"]),
        ("renewal", vec![Ok(refused(500))], &["simplereenroll*", "simpleenroll"]),
        ("renewal", vec![Ok(refused(502))], &["simplereenroll*", "simpleenroll"]),
        ("renewal", vec![Err(tls())], &["simplereenroll*", "simpleenroll"]),
        ("renewal", vec![Err(io())], &["simplereenroll*", "simpleenroll"]),
    ];
    for (reason, answers, expected) in table {
        let scene = scene();
        scene.authorities();
        scene.server.answers.lock().unwrap().extend(answers);
        let progress = scene.issue().step(&mut order(reason), Some(&old));
        assert!(matches!(progress, Ok(Progress::Issued(_))), "{progress:?}");
        assert_eq!(scene.sent()[1..], *expected, "{reason}");
    }
    // Who is busy is left alone.
    let scene = scene();
    let later = response(500, &[("retry-after", "60")], b"");
    for busy in [refused(503), refused(429), later] {
        scene.authorities().answer(busy);
        let error = scene.step(&mut order("renewal"), Some(&old)).unwrap_err();
        assert!(matches!(error, IssueError::Busy { .. }), "{error:?}");
        assert_eq!(scene.sent(), ["cacerts", "simplereenroll*"]);
    }
    // Both refusals are told.
    scene.authorities().answer(refused(403)).answer(refused(401));
    let error = scene.step(&mut order("renewal"), Some(&old)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "simpleenroll: HTTP status 401: no, see \"username\" and \"password_file\"; before that \
         simplereenroll: HTTP status 403: no, see \"username\", and what the CA allows it"
    );
}

#[test]
fn a_renewal_waits_where_it_was_asked_for() {
    let old = bundle("a.example", NAMES, (-100, 100), Some("corp"));
    let scene = scene();
    let mut order = order("renewal");
    let wait = || response(202, &[("retry-after", "60")], b"");
    scene.authorities().answer(wait()).step(&mut order, Some(&old)).unwrap();
    scene.authorities().answer(wait()).step(&mut order, Some(&old)).unwrap();
    assert_eq!(scene.sent(), ["cacerts", "simplereenroll*"].repeat(2));
    // A server that fails takes it nowhere else, as long as there is time.
    scene.authorities().fail(HttpError::Io("connection reset".into()));
    assert!(scene.step(&mut order, Some(&old)).is_err());
    scene.authorities().answer(response(500, &[], b""));
    assert!(scene.step(&mut order, Some(&old)).is_err());
    assert_eq!(scene.sent(), ["cacerts", "simplereenroll*"].repeat(2));
    // But when the old one has ended it can't speak any more.
    let ended = bundle("a.example", NAMES, (-100, -1), Some("corp"));
    scene.authorities().answer(wait()).step(&mut order, Some(&ended)).unwrap();
    // And what waits as a new enrolment stays one.
    scene.authorities().answer(wait()).step(&mut order, Some(&old)).unwrap();
    assert_eq!(scene.sent(), ["cacerts", "simpleenroll"].repeat(2));
}

/// A renewal that waits at a server that fails for good must not wait until the old certificate has
/// ended: in the last sixth of its life the user asks, and the order goes on there.
#[test]
fn a_renewal_does_not_wait_for_ever() {
    for (left, moves) in [(101, false), (99, true)] {
        let old = bundle("a.example", NAMES, (left - 600, left), Some("corp"));
        for answer in [Err(HttpError::Io("reset".into())), Ok(response(500, &[], b""))] {
            let scene = scene();
            let mut order = order("renewal");
            let wait = || response(202, &[("retry-after", "60")], b"");
            scene.authorities().answer(wait()).step(&mut order, Some(&old)).unwrap();
            scene.authorities();
            scene.server.answers.lock().unwrap().push_back(answer);
            scene.sent();
            if !moves {
                assert!(scene.step(&mut order, Some(&old)).is_err());
                assert_eq!(scene.sent(), ["cacerts", "simplereenroll*"]);
                continue;
            }
            scene.answer(wait()).step(&mut order, Some(&old)).unwrap();
            assert_eq!(scene.sent(), ["cacerts", "simplereenroll*", "simpleenroll"]);
            scene.authorities().issue().step(&mut order, Some(&old)).unwrap();
            assert_eq!(scene.sent(), ["cacerts", "simpleenroll"], "one more request, no more");
        }
    }
}

#[test]
fn the_ca_makes_the_key() {
    let scene = scene().with_keygen();
    let key = new_key(KeyType::Ecdsa384).unwrap();
    let leaf = scene.sub.certify(&Spec { names: NAMES, ..Spec::default() }, &key);
    let body = multipart(&key.private_key_to_pkcs8().unwrap(), &certs_only(&[&leaf]));
    let mixed = [("content-type", "multipart/mixed; boundary=estServerExampleBoundary")];
    let old = bundle("a.example", NAMES, (-100, 100), Some("corp"));
    scene.authorities().answer(response(200, &mixed, &body));
    let progress = scene.step(&mut order("renewal"), Some(&old)).unwrap();
    let Progress::Issued(issued) = progress else { panic!("{progress:?}") };
    assert_eq!(issued.chain, scene.chain(&[&leaf, &scene.sub.cert]));
    let made = PKey::private_key_from_pem(issued.key.unwrap().bytes()).unwrap();
    assert!(made.public_eq(&key));
    assert_eq!(scene.sent(), ["cacerts", "serverkeygen"]);

    // A certificate for another key than the one that came with it.
    let body = multipart(&key.private_key_to_pkcs8().unwrap(), &certs_only(&[&scene.leaf()]));
    scene.authorities().answer(response(200, &mixed, &body));
    let error = scene.step(&mut order("missing"), None).unwrap_err();
    assert!(matches!(error, IssueError::Protocol { .. }), "{error:?}");
    scene.authorities().answer(response(200, &[], &body));
    let error = scene.step(&mut order("missing"), None).unwrap_err();
    assert_eq!(error.to_string(), "serverkeygen: the answer is not multipart/mixed");
}
