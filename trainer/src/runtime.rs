//! The async runtime that storage requests and the agent run on.

use tokio::runtime::Runtime;

use crate::error::Error;

/// Starts a runtime with a thread for each core.
///
/// # Errors
/// If the system refuses the threads.
pub fn start() -> Result<Runtime, Error> {
    Runtime::new().map_err(Error::system("start the async runtime"))
}
