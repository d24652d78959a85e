use super::*;

const VAULT: &[Line] =
    &[("protocol", &["vault"]), ("role", &["web"]), ("token_file", &["/run/token"])];
const CFSSL: &[Line] = &[("protocol", &["cfssl"])];

#[test]
fn no_query_where_a_path_is_appended() {
    for (lines, url, good) in [
        (VAULT, "https://bao.example/v1/pki", true),
        (VAULT, "https://bao.example/v1/pki?x=1", false),
        (VAULT, "https://bao.example/v1/pki?", false),
        (CFSSL, "https://cfssl.example:8888", true),
        (CFSSL, "https://cfssl.example:8888?x", false),
        (&[], "https://ca.example/dir?x=1", true),
    ] {
        let done = set(&[lines, &[("url", &[url])]].concat()).unwrap().finish();
        let error = format!(
            "invalid value \"{url}\" in \"url\", it must be without a query: paths are appended to \
             it"
        );
        assert_eq!(done.err(), (!good).then_some(error));
    }
    for (lines, url) in [(VAULT, "https://bao.example/v1/pki#x"), (CFSSL, "https://c.example/#")] {
        assert!(set(&[lines, &[("url", &[url])]].concat()).is_err(), "{url}");
    }
}

/// The token, and what an account is made with.
#[test]
fn nothing_secret_passes_the_network_in_the_clear() {
    let (near, far) = ("http://127.0.0.1:8200/v1/pki", "https://bao.example/v1/pki");
    for (lines, url, proxy, good) in [
        (VAULT, far, "http://proxy.example:3128", true),
        (VAULT, near, "http://proxy.example:3128", false),
        (VAULT, near, "http://me:hush@proxy.example:3128", false),
        (VAULT, near, "http://localhost:3128", true),
        (VAULT, near, "http://me:hush@[::1]:3128/", true),
        (CFSSL, "http://localhost:8888", "http://192.0.2.1:3128", false),
        (&[], "http://localhost/dir", "http://127.0.0.1.example:3128", false),
        (&[], "https://ca.example/dir", "http://192.0.2.1:3128", true),
    ] {
        let (url_args, proxy_args) = ([url], [proxy]);
        let lines = [lines, &[("url", &url_args), ("proxy", &proxy_args)]].concat();
        let error = "\"url\" in ssl_cert_autofetch_ca \"corp\" is http, and its \"proxy\" not on \
                     loopback: what is secret would pass the network in the clear, it must be https";
        let done = set(&lines).unwrap().finish().err();
        assert_eq!(done.as_deref(), (!good).then_some(error), "{url} {proxy}");
    }
}
