use super::*;
use crate::settings::EstSettings;

#[test]
fn settings() {
    let read = |path: &str| match path {
        "password" => Ok(b"hush\n".to_vec()),
        _ => Err("no such file".to_owned()),
    };
    let finish = |lines: &[Line]| {
        let mut ca = RawCa::new("corp").unwrap();
        ca.set("protocol", &["est"], &read).unwrap();
        for (name, args) in lines {
            ca.set(name, args, &read)?;
        }
        ca.finish()
    };
    let url: Line = ("url", &["https://est.example/.well-known/est/web/"]);
    let (name, word): (Line, Line) = (("username", &["nginx"]), ("password_file", &["password"]));
    let least = EstSettings {
        ca: "corp".into(),
        url: "https://est.example/.well-known/est/web".into(),
        timeout: Duration::from_secs(30),
        username: None,
        password: None,
        server_keygen: false,
    };
    let full = EstSettings {
        username: Some("nginx".into()),
        password: Some(Secret::new(b"hush".to_vec())),
        server_keygen: true,
        ..least.clone()
    };
    assert_eq!(finish(&[url]).unwrap().protocol, Protocol::Est(least));
    let all = [name, word, ("server_keygen", &["on"]), url];
    assert_eq!(finish(&all).unwrap().protocol, Protocol::Est(full));
    for (lines, error) in [
        (&[url, name][..], "no \"password_file\" in ssl_cert_autofetch_ca \"corp\""),
        (&[url, word], "no \"username\" in ssl_cert_autofetch_ca \"corp\""),
        (&[name, word], "no \"url\" in ssl_cert_autofetch_ca \"corp\""),
        (
            &[("url", &["https://est.example"])],
            "invalid value \"https://est.example\" in \"url\", it must be an https URL that ends \
             with \"/.well-known/est\" or, where the server has several CAs, \
             \"/.well-known/est/LABEL\"",
        ),
        (
            &[url, ("role", &["web"])],
            "\"role\" in ssl_cert_autofetch_ca \"corp\" is of protocol \"vault\", but its protocol \
             is \"est\"",
        ),
        (
            &[("password_file", &["/x"])],
            "cannot use \"/x\" in \"password_file\": no such file, it must be a file with a \
             password in one line",
        ),
    ] {
        assert_eq!(finish(lines).unwrap_err(), error);
    }
    let error = set(&[("url", &["https://ca.example/"]), name]).unwrap().finish().unwrap_err();
    assert!(error.contains("\"username\"") && error.contains("\"acme\""), "{error}");
}
