//! The rendezvous of a job: a key-value store that one rank serves.

use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use crate::error::{Error, Result, check};
use crate::ffi;
use crate::raw::c_string;

/// A client of the job's `TCPStore`, and on one rank its server too.
///
/// The server lives as long as that rank's `Store`: drop it last.
#[derive(Debug)]
pub struct Store {
    raw: *mut ffi::Store,
    host: String,
    port: u16,
}

// SAFETY: `c10d::TCPStore` serialises its operations with a lock of its own.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

pub(crate) fn millis(op: &'static str, timeout: Duration) -> Result<i64> {
    i64::try_from(timeout.as_millis().max(1))
        .map_err(|_| Error::argument(op, format!("a time limit of {timeout:?} is too long")))
}

impl Store {
    /// Connects to the store at `host:port`; with `is_server`, starts it there first (port 0 lets the system choose,
    /// see [`Store::port`]). With `world`, the server waits until this many clients (itself included) have connected.
    ///
    /// # Errors
    /// [`Error::PortInUse`], [`Error::StoreUnreachable`] after `timeout`, else what libtorch says. The host's name is
    /// resolved again at each attempt.
    pub fn tcp(host: &str, port: u16, world: Option<usize>, is_server: bool, timeout: Duration) -> Result<Self> {
        const OP: &str = "TCPStore";
        let c_host = c_string(OP, host)?;
        let timeout_ms = millis(OP, timeout)?;
        let world =
            world.map_or(Ok(-1), i64::try_from).map_err(|_| Error::argument(OP, "the world size is too large"))?;
        let mut out = std::ptr::null_mut();
        let mut code = 0;
        let made = check(OP, |message| {
            // SAFETY: `c_host` outlives the call; `out` is written only on success.
            code =
                unsafe { ffi::tchx_store_tcp(c_host.as_ptr(), port, is_server, world, timeout_ms, &mut out, message) };
            code
        });
        match made {
            Ok(()) => {}
            Err(Error::Torch { .. }) if code == 4 => return Err(Error::PortInUse { port }),
            Err(Error::PeerLost { message, .. } | Error::Timeout { message, .. }) => {
                return Err(Error::StoreUnreachable { host: host.to_owned(), port, timeout, message });
            }
            Err(other) => return Err(other),
        }
        // SAFETY: `out` is the store that was just made.
        let port = unsafe { ffi::tchx_store_port(out) };
        Ok(Store { raw: out, host: host.to_owned(), port })
    }

    /// Sets a key.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        const OP: &str = "store set";
        let key = c_string(OP, key)?;
        // SAFETY: `value` is valid for its length; the store copies it.
        check(OP, |message| unsafe {
            ffi::tchx_store_set(self.raw, key.as_ptr(), value.as_ptr(), value.len(), message)
        })
    }

    /// A key's value; waits for it up to the store's time limit.
    ///
    /// # Errors
    /// When nobody sets the key in time or the server is gone.
    pub fn get(&self, key: &str) -> Result<Vec<u8>> {
        const OP: &str = "store get";
        let key = c_string(OP, key)?;
        let (mut value, mut n) = (std::ptr::null_mut(), 0);
        // SAFETY: both places are valid; they are written only on success.
        check(OP, |message| unsafe { ffi::tchx_store_get(self.raw, key.as_ptr(), &mut value, &mut n, message) })?;
        // SAFETY: on success `value` is malloc'ed and holds `n` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(value, n) }.to_vec();
        // SAFETY: it is ours and not used any more.
        unsafe { ffi::tchx_free(value.cast()) };
        Ok(bytes)
    }

    /// Adds to a counter (0 at first) and returns its new value; atomic over all clients.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64> {
        const OP: &str = "store add";
        let key = c_string(OP, key)?;
        let mut sum = 0;
        // SAFETY: `sum` is a valid place for the call.
        check(OP, |message| unsafe { ffi::tchx_store_add(self.raw, key.as_ptr(), amount, &mut sum, message) })?;
        Ok(sum)
    }

    /// Waits until a key is set.
    ///
    /// # Errors
    /// [`Error::Timeout`] after `timeout`; when the server is gone.
    pub fn wait(&self, key: &str, timeout: Duration) -> Result<()> {
        const OP: &str = "store wait";
        let (key, timeout) = (c_string(OP, key)?, millis(OP, timeout)?);
        // SAFETY: the key outlives the call.
        check(OP, |message| unsafe { ffi::tchx_store_wait(self.raw, key.as_ptr(), timeout, message) })
    }

    /// The port the server listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn raw(&self) -> *mut ffi::Store {
        self.raw
    }

    /// The address of this machine from which the store's host is reached: peers reach us there too, which the name of
    /// this machine does not promise (Debian maps it to 127.0.1.1).
    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        let targets = (self.host.as_str(), self.port).to_socket_addrs().ok()?;
        targets.into_iter().find_map(|target| {
            let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).ok()?;
            socket.connect(target).ok()?; // sends nothing: it only picks the route
            Some(socket.local_addr().ok()?.ip())
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: made by `tchx_store_tcp`, freed once.
        unsafe { ffi::tchx_store_free(self.raw) };
    }
}
