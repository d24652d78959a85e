//! The lab's own HTTP client: to Pebble's two HTTPS ports, always verified, and to plain HTTP.

use std::time::Duration;

use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub location: Option<String>,
    pub nonce: Option<String>,
    pub body: Vec<u8>,
}

/// A client that trusts the one CA and no other.
#[derive(Clone, Debug)]
pub struct Http {
    agent: ureq::Agent,
}

impl Http {
    pub fn trusting(ca_pem: &[u8]) -> Http {
        Http::with(vec![Certificate::from_pem(ca_pem).expect("PEM of a CA").to_owned()])
    }

    /// For plain HTTP: it trusts nobody.
    pub fn plain() -> Http {
        Http::with(Vec::new())
    }

    fn with(roots: Vec<Certificate<'static>>) -> Http {
        // Both must be said: the defaults of provider and of roots panic with this build of ureq.
        let tls = TlsConfig::builder()
            .provider(TlsProvider::NativeTls)
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .build();
        Http { agent: config.new_agent() }
    }

    pub fn get(&self, url: &str) -> Result<Answer, ureq::Error> {
        answer(self.agent.get(url).call()?)
    }

    pub fn post(&self, url: &str, content_type: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
        answer(self.agent.post(url).content_type(content_type).send(body)?)
    }

    /// As [`Http::get`], given up after so long.
    pub fn get_within(&self, url: &str, time: Duration) -> Result<Answer, ureq::Error> {
        answer(self.agent.get(url).config().timeout_global(Some(time)).build().call()?)
    }

    /// With one more header.
    pub fn get_as(&self, url: &str, header: (&str, &str)) -> Result<Answer, ureq::Error> {
        answer(self.agent.get(url).header(header.0, header.1).call()?)
    }

    /// JSON, with one more header.
    pub fn post_json(
        &self,
        url: &str,
        header: (&str, &str),
        body: &Value,
    ) -> Result<Answer, ureq::Error> {
        let request = self.agent.post(url).content_type("application/json");
        answer(request.header(header.0, header.1).send(body.to_string().as_bytes())?)
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into()
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    let header =
        |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let (location, nonce) = (header("location"), header("replay-nonce"));
    let body = response.body_mut().read_to_vec()?;
    Ok(Answer { status: response.status().as_u16(), location, nonce, body })
}
