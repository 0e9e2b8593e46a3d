//! Waits for node 0, whose name may not resolve yet and whose store may not listen yet.

use std::time::{Duration, Instant};

use tokio::net::{TcpStream, lookup_host};

use crate::error::Error;

/// Waits until `host:port` accepts a connection.
pub async fn reach(host: &str, port: u16, timeout: Duration) -> Result<(), Error> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        let why = match tokio::time::timeout(Duration::from_secs(5), attempt(host, port)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(_) => "no answer within 5 s".to_owned(),
        };
        if start.elapsed() + pause > timeout {
            return Err(Error::Rendezvous {
                address: format!("{host}:{port}"),
                message: format!(
                    "node 0 was not reached within {}s: {why}; check --master-addr and --master-port, that node 0 runs, \
                     and that no firewall is in the way",
                    timeout.as_secs()
                ),
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn attempt(host: &str, port: u16) -> Result<(), String> {
    let addresses: Vec<_> =
        lookup_host((host, port)).await.map_err(|e| format!("the name {host} does not resolve ({e})"))?.collect();
    let mut why = format!("the name {host} has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(()),
            Err(e) => why = format!("{address}: {e}"),
        }
    }
    Err(why)
}
