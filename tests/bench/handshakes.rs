//! Full TLS 1.3 handshakes, one after the other: the client of `scripts/bench.sh`.
//!
//! `handshakes PORT NAME CA_FILE COUNT` connects to 127.0.0.1:PORT with SNI NAME,
//! verifies the certificate against CA_FILE, and ends with 1 at the first handshake that fails,
//! that is resumed, or that is of another TLS version. A number that counts such handshakes
//! would look good.

use std::error::Error;
use std::io::Read;
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use openssl::ssl::{
    ShutdownState, SslConnector, SslMethod, SslOptions, SslSessionCacheMode, SslVersion,
};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("handshakes: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, name, ca, count] = args.as_slice() else {
        return Err("usage: handshakes PORT NAME CA_FILE COUNT".into());
    };
    let (port, count): (u16, usize) = (port.parse()?, count.parse()?);
    let connector = connector(ca)?;
    for i in 1..=count {
        handshake(&connector, port, name).map_err(|e| format!("handshake {i}: {e}"))?;
    }
    Ok(())
}

fn connector(ca: &str) -> Result<SslConnector, Box<dyn Error>> {
    // The system's own configuration and trust must not matter.
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    builder.set_cert_store(openssl::x509::store::X509StoreBuilder::new()?.build());
    builder.set_ca_file(ca)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_options(SslOptions::NO_TICKET);
    Ok(builder.build())
}

fn handshake(connector: &SslConnector, port: u16, name: &str) -> Result<(), Box<dyn Error>> {
    let tcp = TcpStream::connect(("127.0.0.1", port))?;
    tcp.set_nodelay(true)?;
    // A server under valgrind is slow, but not this slow.
    tcp.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut tls = connector.connect(name, tcp)?;
    if tls.ssl().session_reused() {
        return Err("was resumed".into());
    }
    if tls.ssl().version2() != Some(SslVersion::TLS1_3) {
        return Err("is not of TLS 1.3".into());
    }
    // The server closes too: its part is over before the next one starts.
    if tls.shutdown()? == openssl::ssl::ShutdownResult::Sent
        && !tls.get_shutdown().contains(ShutdownState::RECEIVED)
    {
        let _ = tls.read(&mut [0; 256]);
    }
    Ok(())
}
