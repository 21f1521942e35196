//! TCP probes: a connection can be opened.

use std::time::Duration;

use tokio::net::TcpStream;

/// The error is worded as Go's dialer words it.
pub(super) async fn probe(host: &str, port: u16, limit: Duration) -> Result<(), String> {
    dial(host, port, limit).await.map(drop)
}

/// Opens a connection; host names are looked up by the machine's resolver file only when they are no addresses.
pub(crate) async fn dial(host: &str, port: u16, limit: Duration) -> Result<TcpStream, String> {
    let plain = host.trim_matches(['[', ']']);
    let shown = if plain.contains(':') { format!("[{plain}]:{port}") } else { format!("{plain}:{port}") };
    let failed = |what: String| format!("dial tcp {shown}: {what}");
    let address = match plain.parse::<std::net::IpAddr>() {
        Ok(address) => address,
        Err(_) if plain == "localhost" => std::net::IpAddr::from([127, 0, 0, 1]),
        Err(_) => return Err(format!("dial tcp: lookup {plain}: no such host")),
    };
    match tokio::time::timeout(limit, TcpStream::connect((address, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(failed(format!("connect: {}", describe(&error)))),
        Err(_) => Err(failed("i/o timeout".to_owned())),
    }
}

fn describe(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => coracle_host::describe(errno),
        None => error.to_string(),
    }
}
