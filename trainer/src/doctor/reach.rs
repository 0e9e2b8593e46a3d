//! Checks of what is reached over the network: the output's storage, and another node.

use std::time::{Duration, Instant, SystemTime};

use simsiam_recipe::Output;
use tokio::runtime::Handle;

use super::check::Check;
use crate::agent::rendezvous;
use crate::error::Error;
use crate::storage::Storage;

/// Object stores refuse requests whose time is further off than 15 minutes.
const SKEW: Duration = Duration::from_secs(300);
/// A checkpoint makes a few dozen requests.
const SLOW: Duration = Duration::from_secs(5);
/// Written, listed, read and deleted.
const FOLDER: &str = "simsiam-doctor";
const PROBE: &str = "probe";

/// Writes, lists, reads and deletes an object in the output.
pub fn storage(output: &Output, runtime: &Handle) -> Check {
    const NAME: &str = "output";
    let start = Instant::now();
    let probed = probe(output, runtime);
    let took = start.elapsed();
    match probed {
        Err(e) => {
            Check::wrong(NAME, e.to_string(), "check address, endpoint, region, credentials and the bucket's policy")
        }
        Ok(skew) if skew > SKEW => Check::wrong(
            NAME,
            format!("{}: its clock and this machine's differ by {} s", output.uri, skew.as_secs()),
            "synchronise this machine's clock (NTP): requests signed with a wrong time are refused",
        ),
        Ok(_) if took > SLOW => Check::slow(
            NAME,
            format!("{}: 4 requests took {:.1} s", output.uri, took.as_secs_f64()),
            "checkpoints will be slow",
        ),
        Ok(_) => Check::ok(
            NAME,
            format!("{}: an object was written, listed, read and deleted in {} ms", output.uri, took.as_millis()),
        ),
    }
}

/// The difference between the storage's clock and ours.
fn probe(output: &Output, runtime: &Handle) -> Result<Duration, Error> {
    let storage = Storage::open(output, runtime.clone())?;
    let folder = format!("{FOLDER}-{}", std::process::id());
    let name = format!("{folder}/{PROBE}");
    let content = b"written by simsiam doctor".to_vec();
    let wrong = |message: &str| Error::Storage { uri: storage.uri(&name), message: message.to_owned() };
    storage.put(&name, content.clone())?;
    let now = SystemTime::now();
    let rest = || {
        let written = storage.modified(&name)?;
        if !storage.files(&folder)?.iter().any(|file| file == PROBE) {
            return Err(wrong("it was written, but is not listed"));
        }
        if storage.get(&name)?.as_ref() != Some(&content) {
            return Err(wrong("it was written, but reads differently"));
        }
        Ok(written.duration_since(now).unwrap_or_else(|earlier| earlier.duration()))
    };
    let skew = rest();
    storage.delete_folder(&folder, PROBE)?;
    skew
}

/// Connects to the rendezvous store of another node.
pub fn node(host: &str, port: u16, timeout: Duration, runtime: &Handle) -> Check {
    const NAME: &str = "node 0";
    let start = Instant::now();
    match runtime.block_on(rendezvous::reach(host, port, timeout)) {
        Ok(()) => Check::ok(NAME, format!("{host}:{port} answered in {} ms", start.elapsed().as_millis())),
        Err(e) => Check::wrong(
            NAME,
            e.to_string(),
            "its rank 0 must run, and network policies and firewalls must let the nodes reach one another on all ports",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::CheckState;
    use super::*;

    #[test]
    fn output_folder_is_probed_and_left_as_it_was() {
        let runtime = crate::runtime::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let output = |uri: String| Output { uri, endpoint: None, region: None, credentials_secret: None };
        let check = storage(&output(folder.path().display().to_string()), runtime.handle());
        assert_eq!(check.state, CheckState::Ok, "{check:?}");
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let check = storage(&output(file.display().to_string()), runtime.handle());
        assert!(check.state == CheckState::Wrong && check.found.contains("spec.output.uri"), "{check:?}");
    }

    #[test]
    fn node_that_does_not_answer_is_wrong_and_named() {
        let runtime = crate::runtime::start().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let reached = node("127.0.0.1", port, Duration::from_secs(1), runtime.handle());
        assert_eq!(reached.state, CheckState::Ok, "{reached:?}");
        drop(listener);
        let lost = node("127.0.0.1", port, Duration::from_millis(50), runtime.handle());
        assert!(lost.state == CheckState::Wrong && lost.found.contains(&port.to_string()), "{lost:?}");
    }
}
