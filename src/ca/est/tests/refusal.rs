use super::*;

#[test]
fn refusals() {
    // Status, and what becomes of it: kind, a part of the line, for an enrolment.
    let table = [
        (503, "Busy", "simpleenroll: HTTP status 503: not today"),
        (500, "Busy", "HTTP status 500"),
        (429, "Busy", "HTTP status 429"),
        (401, "Configuration", "see \"username\" and \"password_file\""),
        (403, "Configuration", "see \"username\""),
        (404, "Configuration", "see \"url\""),
        (501, "Configuration", "see \"url\""),
        (204, "Configuration", "see \"url\""),
        (400, "Refused", "HTTP status 400: not today"),
        (302, "Refused", "HTTP status 302"),
        (201, "Refused", "HTTP status 201"),
    ];
    let headers = [("content-type", "text/plain; charset=utf-8"), ("retry-after", "7")];
    for (status, kind, line) in table {
        let scene = scene();
        let mut order = order("missing");
        scene.authorities().answer(response(status, &headers, b"not today\n"));
        let error = scene.step(&mut order, None).unwrap_err();
        assert!(format!("{error:?}").starts_with(kind), "{status} {error:?}");
        assert!(error.to_string().contains(line), "{error}");
        assert!(!error.to_string().contains("hush") && !order.accepted);
        let wish = matches!(kind, "Busy" | "Refused").then_some(Duration::from_secs(7));
        assert_eq!(error.retry_after(), wish, "{error:?}");
    }
    for (status, line) in [
        (404, "cacerts: HTTP status 404, see \"url\""),
        (401, "cacerts: HTTP status 401, see \"username\" and \"password_file\""),
        (202, "cacerts: HTTP status 202"),
    ] {
        let scene = scene();
        scene.answer(response(status, &[], b""));
        assert_eq!(scene.step(&mut order("missing"), None).unwrap_err().to_string(), line);
        assert_eq!(scene.sent(), ["cacerts"], "nothing is asked for");
    }
    let scene = scene().with_keygen();
    scene.authorities().answer(response(404, &[], b""));
    let error = scene.step(&mut order("missing"), None).unwrap_err().to_string();
    assert_eq!(error, "serverkeygen: HTTP status 404, see \"server_keygen\" and \"url\"");
}

#[test]
fn texts_of_the_server_are_short_and_harmless() {
    let line = |headers: &[(&str, &str)], body: &[u8]| {
        let scene = scene();
        scene.authorities().answer(response(400, headers, body));
        scene.step(&mut order("missing"), None).unwrap_err().to_string()
    };
    let text = [("content-type", "text/plain")];
    const BARE: &str = "simpleenroll: HTTP status 400";
    assert_eq!(line(&[("content-type", "text/html")], b"<html>"), BARE);
    assert_eq!(line(&[], b"x"), BARE);
    assert_eq!(line(&text, b" \r\n"), BARE);
    assert_eq!(line(&text, b"a\nb\x1b[2J\xff"), format!("{BARE}: a b [2J\u{fffd}"));
    assert!(line(&text, &b"x".repeat(5000)).len() < 400);
}

#[test]
fn who_is_not_there_is_asked_for_nothing() {
    let scene = scene();
    scene.fail(HttpError::Timeout);
    let error = scene.step(&mut order("missing"), None).unwrap_err();
    assert_eq!(error.to_string(), "cacerts: timed out");
    assert!(matches!(error, IssueError::Unreachable { .. }));
    assert!(!error.order_is_dead());

    scene.answer(response(200, &[], b"<html>"));
    let error = scene.step(&mut order("missing"), None).unwrap_err();
    assert_eq!(error.to_string(), "cacerts: the answer is not base64");
    assert_eq!(scene.sent(), ["cacerts", "cacerts"]);
}

#[test]
fn without_a_user_no_password_is_sent() {
    let mut scene = scene();
    (scene.settings.username, scene.settings.password) = (None, None);
    scene.authorities().issue().step(&mut order("missing"), None).unwrap();
    let sent = scene.server.sent.lock().unwrap();
    assert!(sent.iter().all(|(_, r)| r.headers.iter().all(|(name, _)| *name != "authorization")));
}
