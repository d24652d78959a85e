//! What held handshakes cost the others: the latency of handshakes for one name while a hundred
//! are held on another, against that with none held. A benchmark: it prints a table and judges
//! nothing but that every handshake came to its end.

#[path = "../lab/mod.rs"]
mod lab;

use std::time::Duration;

use lab::*;

const HELD: usize = 100;
const LATE: Duration = Duration::from_secs(3);
/// Interleaved: what else the machine does falls on both sides.
const PAIRS: usize = 5;
const HANDSHAKES: usize = 1500;

/// Of the handshakes of one side.
#[derive(Clone, Copy)]
struct Latency {
    p50: Duration,
    p99: Duration,
}

fn main() {
    let lab = Stage::trusting_lab();
    let tls = lab.tls_port.addr();
    let http = format!(
        "ssl_session_tickets off; ssl_cert_autofetch_max_held {};\n\
         server {{ listen {tls} ssl; server_name late.test; ssl_cert_autofetch_check_interval 0; }}\n\
         server {{ listen {tls} ssl; server_name other.test; return 204; }}",
        HELD + 1
    );
    let stage = Stage::start(lab, Config::new().level("error"), &http);
    let late = stage.monitor.wait_valid("late.test");
    stage.monitor.wait_valid("other.test");
    stage.lab.responder.behave_for(&late, Behaviour::delayed(LATE));
    measure(&stage, HANDSHAKES / 5); // warms up

    println!(
        "Handshakes for other names while {HELD} are held (one worker, an OCSP answer {} s late, \
         {HANDSHAKES} full TLS 1.3 handshakes a cell, ECDSA P-256)\n",
        LATE.as_secs()
    );
    println!("| pair | none held: p50 | p99 | {HELD} held: p50 | p99 | p99 ratio | held for |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut pairs = Vec::new();
    for number in 1..=PAIRS {
        // Each side comes first in turn.
        let (none, (held, times)) = match number % 2 {
            1 => (measure(&stage, HANDSHAKES), while_held(&stage)),
            _ => {
                let held = while_held(&stage);
                (measure(&stage, HANDSHAKES), held)
            }
        };
        print_row(&number.to_string(), none, held, none.ratio(held), &times);
        pairs.push((none, held));
    }
    let median = |of: fn(&(Latency, Latency)) -> Duration| median(pairs.iter().map(of).collect());
    let none = Latency { p50: median(|p| p.0.p50), p99: median(|p| p.0.p99) };
    let held = Latency { p50: median(|p| p.1.p50), p99: median(|p| p.1.p99) };
    let mut ratios: Vec<f64> = pairs.iter().map(|(none, held)| none.ratio(*held)).collect();
    ratios.sort_by(f64::total_cmp);
    print_row("median", none, held, ratios[PAIRS / 2], "");
    stage.nginx.check_log();
}

/// The same with a hundred handshakes held, from before the first to after the last; and how long
/// these were held.
fn while_held(stage: &Stage) -> (Latency, String) {
    let before = stage.monitor.counter("held");
    let client = stage.lab.client("late.test");
    let waiting: Vec<_> = (0..HELD).map(|_| client.connect_aside()).collect();
    stage.monitor.wait_counter("held", before + HELD as u64, LATE);
    let latency = measure(stage, HANDSHAKES);
    assert!(!waiting.iter().any(|w| w.is_finished()), "too slow: the held ones are through");
    let done = waiting.into_iter().map(|w| w.join().expect("thread").expect("held, then served"));
    let mut times: Vec<_> = done.map(|connection| connection.took).collect();
    times.sort();
    let (first, last) = (times[0].as_millis(), times[HELD - 1].as_millis());
    (latency, format!("{first} to {last} ms"))
}

/// One after the other.
fn measure(stage: &Stage, count: usize) -> Latency {
    let client = stage.lab.client("other.test").tls13();
    let one = |_| {
        let connection = client.connect().expect("handshake");
        assert!(!connection.resumed);
        connection.took
    };
    let mut times: Vec<_> = (0..count).map(one).collect();
    times.sort();
    let at = |share: f64| times[(count as f64 * share) as usize];
    Latency { p50: at(0.5), p99: at(0.99) }
}

impl Latency {
    fn ratio(self, held: Latency) -> f64 {
        held.p99.as_secs_f64() / self.p99.as_secs_f64()
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn print_row(pair: &str, none: Latency, held: Latency, ratio: f64, times: &str) {
    let ms = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1000.0);
    let (a, b, c, d) = (ms(none.p50), ms(none.p99), ms(held.p50), ms(held.p99));
    println!("| {pair} | {a} | {b} | {c} | {d} | {ratio:.2} | {times} |");
}
