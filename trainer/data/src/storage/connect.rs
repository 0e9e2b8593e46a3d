//! Addresses, and the client that each of them needs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::listed::UnusableKeys;
use crate::Error;
use crate::storage_error::{StorageErrorKind, advice};

/// How storage is reached; credentials come from the environment.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// Endpoint of an S3 service other than Amazon's, as `https://host:port`.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// How long a failing request (a 5xx status, a lost connection, no answer) is retried with exponential backoff.
    pub retry_timeout: Duration,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self { endpoint: None, region: None, retry_timeout: Duration::from_secs(180) }
    }
}

impl StorageOptions {
    fn retries(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig { init_backoff: Duration::from_millis(100), ..BackoffConfig::default() },
            // The time decides, not the count.
            max_retries: 1000,
            retry_timeout: self.retry_timeout,
        }
    }

    fn client(&self) -> ClientOptions {
        // A request that hangs must fail early enough to leave time for another attempt.
        let limit = (self.retry_timeout / 4).clamp(Duration::from_secs(1), Duration::from_secs(30));
        ClientOptions::new().with_timeout(limit).with_connect_timeout(limit.min(Duration::from_secs(5)))
    }
}

/// Splits an address into scheme and rest; a plain path has no scheme.
fn scheme(uri: &str) -> (Option<&str>, &str) {
    match uri.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, uri),
    }
}

/// The folder that a path or a `file://` address names; `None` for an address in object storage.
#[must_use]
pub fn local_folder(uri: &str) -> Option<PathBuf> {
    match scheme(uri) {
        (None, path) | (Some("file"), path) => Some(PathBuf::from(path)),
        _ => None,
    }
}

/// Opens an existing local folder. Files written through it are synced to disk before they appear under their name.
pub(super) fn open_folder(path: &std::path::Path) -> Result<Arc<dyn ObjectStore>, Error> {
    let failed = |e: std::io::Error| {
        let (kind, uri) = (StorageErrorKind::of_io(&e), path.display().to_string());
        Error::Storage { kind, uri, reason: format!("cannot open this folder: {e}") }
    };
    std::fs::metadata(path).map_err(failed)?;
    let folder = LocalFileSystem::new_with_prefix(path).map_err(|e| {
        let (kind, uri) = (StorageErrorKind::of(&e), path.display().to_string());
        Error::Storage { kind, uri, reason: format!("cannot open this folder: {e}") }
    })?;
    Ok(Arc::new(folder.with_fsync(true).with_automatic_cleanup(true)))
}

/// Creates a local folder and its parents.
pub(super) fn create_folder(path: &std::path::Path) -> Result<(), Error> {
    use std::io::ErrorKind as K;
    std::fs::create_dir_all(path).map_err(|e| {
        let (kind, uri) = (StorageErrorKind::of_io(&e), path.display().to_string());
        let reason = match e.kind() {
            K::AlreadyExists | K::NotADirectory => "is a file, or is below one; name a folder".to_owned(),
            _ => format!("cannot create this folder: {e}{}", advice(kind)),
        };
        Error::Storage { kind, uri, reason }
    })
}

/// The variables from which the S3 client takes an endpoint.
const ENDPOINT_VARIABLES: [&str; 3] = ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"];

/// Refuses an endpoint that is no HTTP address: the client would fail on it in ways that do not name it.
fn check_endpoint(options: &StorageOptions) -> Result<(), String> {
    let named = match &options.endpoint {
        Some(endpoint) => vec![("the endpoint", endpoint.clone())],
        None => ENDPOINT_VARIABLES.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?))).collect(),
    };
    for (name, value) in named {
        let host = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.starts_with('/') || host.contains(char::is_whitespace)) {
            return Err(format!("{name} is {value:?}; expected http://host:port or https://host:port"));
        }
    }
    Ok(())
}

/// The client of an `s3://`, `gs://` or `az://` address, and the path of its prefix in the bucket. Keys that its listings
/// leave out are added to `unusable`.
pub(super) fn connect(
    uri: &str,
    options: &StorageOptions,
    unusable: &UnusableKeys,
) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
    let refused = |e: object_store::Error| Error::Storage {
        kind: StorageErrorKind::Refused,
        uri: uri.to_owned(),
        reason: format!("cannot open: {e}"),
    };
    let (scheme, rest) = scheme(uri);
    let client: Arc<dyn ObjectStore> = match scheme {
        Some("s3") => {
            check_endpoint(options).map_err(|reason| Error::Storage {
                kind: StorageErrorKind::Refused,
                uri: uri.to_owned(),
                reason,
            })?;
            let mut builder = AmazonS3Builder::from_env().with_url(uri).with_retry(options.retries());
            let mut client = options.client();
            if let Some(endpoint) = &options.endpoint {
                client = client.with_allow_http(endpoint.starts_with("http://"));
                builder = builder.with_endpoint(endpoint);
            } else if std::env::var("AWS_ALLOW_HTTP").is_ok_and(|v| v == "true") {
                client = client.with_allow_http(true);
            }
            if let Some(region) = &options.region {
                builder = builder.with_region(region);
            }
            let builder = builder.with_client_options(client).with_http_connector(unusable.clone());
            Arc::new(builder.build().map_err(refused)?)
        }
        Some("gs") => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(uri).with_retry(options.retries());
            let builder = builder.with_client_options(options.client()).with_http_connector(unusable.clone());
            Arc::new(builder.build().map_err(refused)?)
        }
        Some("az") => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(uri).with_retry(options.retries());
            let builder = builder.with_client_options(options.client()).with_http_connector(unusable.clone());
            Arc::new(builder.build().map_err(refused)?)
        }
        other => {
            let scheme = other.unwrap_or_default().to_owned();
            let expected = "a path, file://<absolute path>, s3://, gs:// or az://";
            return Err(Error::Scheme { location: uri.to_owned(), scheme, expected });
        }
    };
    Ok((client, Path::from(rest.split_once('/').map_or("", |(_, key)| key))))
}
