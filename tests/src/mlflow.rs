//! A real MLflow tracking server, and what it has.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::{text, wait_until};

/// The only user of the server, and the password.
pub const CREDENTIALS: (&str, &str) = ("tester", "correct horse battery staple");

/// The prepared server: its Python packages, and databases without runs and users.
fn installation() -> Option<PathBuf> {
    let folder = simsiam_cache::root().ok()?.join(simsiam_cache::MLFLOW);
    if folder.exists() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no {} (cargo xtask test --test track installs it)", folder.display());
    None
}

/// A server that ends with the test. Its runs are in a folder, where another server can continue them.
pub struct Mlflow {
    child: Child,
    address: String,
}

impl Mlflow {
    /// Returns an address that no server has yet; `None`, with a message, on a machine without MLflow.
    pub fn free_address() -> Option<String> {
        installation()?;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Some(listener.local_addr().expect("its address").to_string())
    }

    /// Starts a server on an address with its database and artifacts in `folder`, and waits until it answers.
    pub fn start(address: &str, folder: &Path) -> Self {
        let installed = installation().expect("MLflow, as when the address was chosen");
        let database = |name: &str| {
            let path = folder.join(name);
            if !path.exists() {
                fs::copy(installed.join(name), &path).expect("the folder is writable");
            }
            format!("sqlite:///{}", text(&path))
        };
        let (user, password) = CREDENTIALS;
        let settings = format!(
            "[mlflow]\ndefault_permission = READ\ndatabase_uri = {}\nadmin_username = {user}\nadmin_password = {password}\n\
             authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
            database("users.sqlite")
        );
        fs::write(folder.join("users.ini"), settings).expect("the folder is writable");
        let log = fs::File::create(folder.join("mlflow.log")).expect("the folder is writable");
        let (host, port) = address.split_once(':').expect("host and port");
        let child = Command::new("python3")
            .args(["-m", "mlflow", "server", "--workers", "1", "--host", host, "--port", port])
            .args(["--app-name", "basic-auth", "--backend-store-uri", &database("runs.sqlite")])
            .args(["--artifacts-destination", text(&folder.join("artifacts"))])
            .env("PYTHONPATH", installed.join("site"))
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .env("MLFLOW_AUTH_CONFIG_PATH", folder.join("users.ini"))
            .env("MLFLOW_FLASK_SERVER_SECRET_KEY", "of the tests")
            .current_dir(folder)
            // It starts processes of its own.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("python3 starts");
        let server = Self { child, address: address.to_owned() };
        wait_until(Duration::from_secs(120), "MLflow", || request(address, "GET", "/health", None));
        server
    }

    /// The address as `spec.track.mlflow.uri` has it.
    pub fn uri(address: &str) -> String {
        format!("http://{address}")
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = request(&self.address, method, path, body).unwrap_or_else(|| panic!("{path}: no answer"));
        serde_json::from_slice(&answer).unwrap_or_else(|e| panic!("{path}: {e}: {}", String::from_utf8_lossy(&answer)))
    }

    /// The runs of an experiment, none if there is no such experiment yet.
    pub fn runs(&self, experiment: &str) -> Vec<Value> {
        let found =
            self.call("GET", &format!("/api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}"), None);
        let Some(id) = found["experiment"]["experiment_id"].as_str() else { return Vec::new() };
        let found = self.call("POST", "/api/2.0/mlflow/runs/search", Some(&json!({"experiment_ids": [id]})));
        found["runs"].as_array().cloned().unwrap_or_default()
    }

    /// The only run of an experiment.
    pub fn run(&self, experiment: &str) -> Value {
        let mut runs = self.runs(experiment);
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }

    /// The values of a metric with their steps, as they were logged.
    pub fn history(&self, run: &Value, key: &str) -> Vec<(u64, f64)> {
        let id = run["info"]["run_id"].as_str().expect("an id");
        let path = format!("/api/2.0/mlflow/metrics/get-history?run_id={id}&metric_key={key}&max_results=10000");
        let found = self.call("GET", &path, None);
        let values = found["metrics"].as_array().cloned().unwrap_or_default();
        values.iter().map(|v| (v["step"].as_u64().expect("a step"), v["value"].as_f64().expect("a number"))).collect()
    }

    /// A file of a run.
    pub fn artifact(&self, run: &Value, name: &str) -> Vec<u8> {
        let uri = run["info"]["artifact_uri"].as_str().expect("an address");
        let folder = uri.strip_prefix("mlflow-artifacts:").expect("artifacts behind the server");
        let path = format!("/api/2.0/mlflow-artifacts/artifacts{folder}/{name}");
        request(&self.address, "GET", &path, None).unwrap_or_else(|| panic!("{path}: no answer"))
    }
}

impl Drop for Mlflow {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// The key or value of a list of MLflow's, as `{key, value}` pairs.
pub fn value<'a>(list: &'a Value, key: &str) -> Option<&'a str> {
    list.as_array()?.iter().find(|entry| entry["key"] == key)?["value"].as_str()
}

/// One request, by hand; the body of the answer, whatever its status.
fn request(address: &str, method: &str, path: &str, body: Option<&Value>) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    let user = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", CREDENTIALS.0, CREDENTIALS.1));
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Basic {user}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(answer.split_off(end + 4))
}
