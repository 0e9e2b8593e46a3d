//! Requests to an MLflow server: addresses, credentials, time limits, and what an answer means.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tokio::runtime::Handle;
use url::Url;

use super::failure::Failure;
use super::params::shortened;

/// The longest that a request may take.
const LIMIT: Duration = Duration::from_secs(8);
/// The same for a file.
const FILE_LIMIT: Duration = Duration::from_secs(60);
/// The longest that a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes: a page of a metric's history is far below.
const LONGEST_ANSWER: usize = 32 << 20;
/// The longest text of a server's message that is shown, in characters.
const LONGEST_MESSAGE: usize = 300;

/// How the server knows us: MLflow's own environment variables.
#[derive(Clone)]
pub enum Credentials {
    /// `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, which precede a token as in MLflow.
    Password(String, String),
    /// `MLFLOW_TRACKING_TOKEN`.
    Token(String),
    /// None are set.
    None,
}

impl Credentials {
    /// Those of the environment.
    pub fn of_environment() -> Self {
        Self::of(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(get: impl Fn(&str) -> Option<String>) -> Self {
        match (get("MLFLOW_TRACKING_USERNAME"), get("MLFLOW_TRACKING_PASSWORD"), get("MLFLOW_TRACKING_TOKEN")) {
            (Some(user), Some(password), _) => Self::Password(user, password),
            (_, _, Some(token)) => Self::Token(token),
            _ => Self::None,
        }
    }
}

/// A connection to a server. Calls block; they must not come from a thread of the async runtime.
pub struct Http {
    client: reqwest::Client,
    base: Url,
    credentials: Credentials,
    runtime: Handle,
    deadline: Arc<OnceLock<Instant>>,
}

impl Http {
    /// Requests to the server at `uri`.
    ///
    /// # Errors
    /// If `uri` is not an address, or TLS cannot be set up.
    pub fn new(uri: &str, credentials: Credentials, runtime: Handle) -> Result<Self, Failure> {
        let base = Url::parse(uri).map_err(|e| Failure::refused(format!("spec.track.mlflow.uri: {e}")))?;
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("simsiam/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| Failure::refused(format!("no HTTP client: {}", chain(&e))))?;
        Ok(Self { client, base, credentials, runtime, deadline: Arc::default() })
    }

    /// The server's address without a slash at its end.
    pub fn uri(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Set from any thread: requests that begin from then on do not outlast it.
    pub fn deadline(&self) -> Arc<OnceLock<Instant>> {
        self.deadline.clone()
    }

    /// `GET`, with its parameters.
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Failure> {
        let mut url = self.url(path);
        url.query_pairs_mut().extend_pairs(query);
        self.json(self.client.request(Method::GET, url))
    }

    /// `POST` of a document.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.client.request(Method::POST, self.url(path));
        self.json(request.header("content-type", "application/json").body(body.to_string()))
    }

    /// `PUT` of a file.
    pub fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        let request = self.client.request(Method::PUT, self.url(path));
        self.send(request.header("content-type", "application/octet-stream").body(bytes), FILE_LIMIT).map(drop)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        url
    }

    fn json(&self, request: RequestBuilder) -> Result<Value, Failure> {
        let body = self.send(request, LIMIT)?;
        serde_json::from_slice(&body).map_err(|e| {
            let message = format!("the answer is not JSON, so this is no MLflow server ({e})");
            Failure::refused(format!("{message}; check spec.track.mlflow.uri"))
        })
    }

    fn send(&self, request: RequestBuilder, limit: Duration) -> Result<Vec<u8>, Failure> {
        let left = self.deadline.get().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let request = match &self.credentials {
            Credentials::Password(user, password) => request.basic_auth(user, Some(password)),
            Credentials::Token(token) => request.bearer_auth(token),
            Credentials::None => request,
        };
        self.runtime.block_on(async {
            let unreachable = |e: reqwest::Error| Failure::Unreachable(chain(&e.without_url()));
            let response =
                request.timeout(left.map_or(limit, |left| left.min(limit))).send().await.map_err(unreachable)?;
            let status = response.status().as_u16();
            let body = body(response).await.map_err(unreachable)?;
            if (200..300).contains(&status) { Ok(body) } else { Err(failure(status, &body)) }
        })
    }
}

/// The answer's body, cut after [`LONGEST_ANSWER`].
async fn body(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_ANSWER {
            break;
        }
    }
    Ok(body)
}

/// What an answer that is not a success means.
fn failure(status: u16, body: &[u8]) -> Failure {
    let answer = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let said = match answer["message"].as_str() {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    let said = shortened(said.split_whitespace().collect::<Vec<_>>().join(" ").as_str(), LONGEST_MESSAGE);
    let said = if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said}") };
    let code = answer["error_code"].as_str().unwrap_or_default();
    let message = match status {
        408 | 425 | 429 | 500..600 => return Failure::Unreachable(said),
        401 | 403 => format!(
            "the server refuses the credentials ({said}); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or \
             MLFLOW_TRACKING_TOKEN; on a cluster in the Secret that spec.track.mlflow.credentialsSecret names"
        ),
        // An MLflow server says which resource it lacks.
        404 if code.is_empty() => {
            format!("there is no MLflow REST API at this address ({said}); check spec.track.mlflow.uri")
        }
        300..=399 => format!("the server redirects to another address ({said}); set that in spec.track.mlflow.uri"),
        _ => said,
    };
    Failure::Refused { status, code: code.to_owned(), message }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_worth_another_try_are_told_from_refusals() {
        let body = br#"{"error_code": "INVALID_PARAMETER_VALUE", "message": "no\n good"}"#;
        for status in [408, 429, 500, 502, 503] {
            assert_eq!(failure(status, body), Failure::Unreachable(format!("HTTP {status}: no good")));
        }
        let refused = |status, body: &[u8]| match failure(status, body) {
            Failure::Refused { status: found, message, .. } if found == status => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(400, body), "HTTP 400: no good");
        assert!(refused(401, b"").contains("MLFLOW_TRACKING_PASSWORD") && refused(403, b"").contains("HTTP 403"));
        assert!(refused(404, b"<html>nothing here</html>").contains("no MLflow REST API"));
        assert!(refused(404, body).starts_with("HTTP 404: no good"));
        assert!(refused(302, b"").contains("spec.track.mlflow.uri"));
        assert!(refused(400, &[b'x'; 9000]).chars().count() < 400);
    }

    #[test]
    fn credentials_with_password_precede_token() {
        let of = |set: &[(&str, &str)]| {
            Credentials::of(|name| {
                let name = name.strip_prefix("MLFLOW_TRACKING_")?;
                set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let all = [("USERNAME", "u"), ("PASSWORD", "p"), ("TOKEN", "t")];
        assert!(matches!(of(&all), Credentials::Password(user, password) if user == "u" && password == "p"));
        assert!(matches!(of(&all[1..]), Credentials::Token(token) if token == "t"), "no user name");
        assert!(matches!(of(&all[..1]), Credentials::None));
    }

    #[test]
    fn paths_are_appended_to_the_path_of_the_server() {
        let runtime = crate::runtime::start().unwrap();
        for (uri, expected) in [
            ("http://h:5000", "http://h:5000/api/2.0/x%20y"),
            ("http://h:5000/mlflow/", "http://h:5000/mlflow/api/2.0/x%20y"),
            ("https://h/a/b", "https://h/a/b/api/2.0/x%20y"),
        ] {
            let http = Http::new(uri, Credentials::None, runtime.handle().clone()).ok().unwrap();
            assert_eq!(http.url("api/2.0/x y").as_str(), expected);
        }
    }
}
