//! A server of files that can be made to deliver each of them in any way: for lists that lie.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::behaviour::Delivery;
use super::ports::Port;
use super::wire::{self, Exchange, Server};

/// Serves what was put at a path; 404 elsewhere.
pub struct Mirror {
    server: Server,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    pages: HashMap<String, (Delivery, Vec<u8>)>,
    requests: Vec<wire::Request>,
}

impl Mirror {
    pub fn start(content_type: &'static str) -> Mirror {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let state = shared.clone();
        let handler = Arc::new(move |request: &wire::Request, exchange: &mut Exchange| {
            let (delivery, body) = state.lock().expect("lock").take(request);
            // With a tag: who was here before asks on that condition.
            match delivery {
                Delivery::Whole => exchange.respond(200, content_type, "ETag: \"x\"\r\n", &body),
                other => other.send(content_type, &body, exchange),
            }
        });
        Mirror { server: Server::start(Port::reserve(), handler), shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.server.port())
    }

    /// From now on.
    pub fn put(&self, path: &str, delivery: Delivery, body: Vec<u8>) {
        self.shared.lock().expect("lock").pages.insert(format!("/{path}"), (delivery, body));
    }

    /// How often this was asked for.
    pub fn count(&self, path: &str) -> usize {
        let shared = self.shared.lock().expect("lock");
        shared.requests.iter().filter(|r| r.target.trim_start_matches('/') == path).count()
    }

    pub fn down(&self) {
        self.server.down();
    }

    pub fn up(&self) {
        self.server.up();
    }
}

impl Shared {
    fn take(&mut self, request: &wire::Request) -> (Delivery, Vec<u8>) {
        self.requests.push(request.clone());
        let nothing = || (Delivery::Http(404), Vec::new());
        self.pages.get(&request.target).cloned().unwrap_or_else(nothing)
    }
}
