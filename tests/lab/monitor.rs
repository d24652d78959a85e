//! What nginx tells about itself: the module's status, and nginx's own count of connections.

use std::time::Duration;

use serde_json::Value;

use super::http::Http;
use super::ports::Port;
use super::process::{wait_for, wait_until};

/// Reads the [`LOCATIONS`] of a server on a loopback port, which is reserved as long as it lives.
#[derive(Clone, Debug)]
pub struct Monitor {
    http: Http,
    port: Port,
}

/// For a `server` that the monitor can reach by plain HTTP.
pub const LOCATIONS: &str = "location = /status { ssl_cert_autofetch_status; }\n\
                             location = /connections { stub_status; }\n";

impl Monitor {
    pub fn at(port: &Port) -> Monitor {
        Monitor { http: Http::plain(), port: port.clone() }
    }

    /// The whole status; None while nginx does not answer.
    pub fn try_status(&self) -> Option<Value> {
        let answer = self.http.get(&self.url("status"));
        answer.ok().map(|a| a.json()).filter(Value::is_object)
    }

    pub fn status(&self) -> Value {
        wait_for("the status", Duration::from_secs(10), || self.try_status())
    }

    /// The status of one entry.
    pub fn entry(&self, name: &str) -> Value {
        let entries = self.status()["entries"].as_array().cloned().unwrap_or_default();
        let entry = entries.into_iter().find(|e| e["name"] == name);
        entry.unwrap_or_else(|| panic!("no entry {name:?}"))
    }

    pub fn counter(&self, name: &str) -> u64 {
        let status = self.status();
        status["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name:?}: {status}"))
    }

    pub fn wait_counter(&self, name: &str, at_least: u64, within: Duration) {
        let what = format!("counter {name} of {at_least}");
        wait_until(&what, within, || self.counter(name) >= at_least);
    }

    pub fn serial(&self, name: &str) -> Option<String> {
        self.entry(name)["serial"].as_str().map(str::to_owned)
    }

    pub fn state(&self, name: &str) -> String {
        self.entry(name)["state"].as_str().unwrap_or_default().into()
    }

    /// Waits till the entry has a certificate that is served; its serial.
    pub fn wait_valid(&self, name: &str) -> String {
        wait_for(&format!("a certificate for {name}"), Duration::from_secs(60), || {
            let entry = self.entry(name);
            let serial = entry["serial"].as_str().map(str::to_owned);
            serial.filter(|_| entry["state"] == "valid")
        })
    }

    /// Connections of clients, without the one that asks.
    pub fn connections(&self) -> usize {
        let text = self.http.get(&self.url("connections")).expect("answer").text();
        let number = text.strip_prefix("Active connections: ").and_then(|t| t.lines().next());
        let all: usize = number.and_then(|n| n.trim().parse().ok()).expect("a number");
        all - 1
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.port.addr())
    }
}
