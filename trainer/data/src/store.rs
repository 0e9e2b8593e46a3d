//! A place where objects lie, local or in object storage, behind small blocking calls.

use std::ops::Range;
use std::path::{Path as LocalPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, GetOptions, GetRange, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::runtime::Handle;

use crate::Error;

/// How a place is reached; credentials come from the environment.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Address of an S3 service that is not Amazon's, as `https://host:port`.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// How long failing requests (5xx answers, lost connections, silence) are tried again, with growing pauses.
    pub patience: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { endpoint: None, region: None, patience: Duration::from_secs(180) }
    }
}

impl StoreOptions {
    fn retries(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig { init_backoff: Duration::from_millis(100), ..BackoffConfig::default() },
            // Time decides, not the count.
            max_retries: 1000,
            retry_timeout: self.patience,
        }
    }

    fn client(&self) -> ClientOptions {
        // A request that hangs must fail early enough that there is time for another.
        let limit = (self.patience / 4).clamp(Duration::from_secs(1), Duration::from_secs(30));
        ClientOptions::new().with_timeout(limit).with_connect_timeout(limit.min(Duration::from_secs(5)))
    }
}

/// Splits an address into scheme and rest; a plain path has no scheme.
#[must_use]
pub fn scheme(uri: &str) -> (Option<&str>, &str) {
    match uri.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, uri),
    }
}

/// The folder that a path or a `file://` address names; none for an address in object storage.
#[must_use]
pub fn local_folder(uri: &str) -> Option<PathBuf> {
    match scheme(uri) {
        (None, path) | (Some("file"), path) => Some(PathBuf::from(path)),
        _ => None,
    }
}

/// The store of an `s3://`, `gs://` or `az://` address and the path of its prefix there.
///
/// # Errors
/// [`Error::Scheme`] for any other address, [`Error::Refused`] for settings that contradict themselves.
pub fn connect(uri: &str, options: &StoreOptions) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
    let refused = |e: object_store::Error| Error::Refused { uri: uri.to_owned(), reason: format!("cannot open: {e}") };
    let (scheme, rest) = scheme(uri);
    let store: Arc<dyn ObjectStore> = match scheme {
        Some("s3") => {
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
            Arc::new(builder.with_client_options(client).build().map_err(refused)?)
        }
        Some("gs") => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(uri).with_retry(options.retries());
            Arc::new(builder.with_client_options(options.client()).build().map_err(refused)?)
        }
        Some("az") => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(uri).with_retry(options.retries());
            Arc::new(builder.with_client_options(options.client()).build().map_err(refused)?)
        }
        other => {
            let scheme = other.unwrap_or_default().to_owned();
            return Err(Error::Scheme { location: uri.to_owned(), scheme });
        }
    };
    Ok((store, Path::from(rest.split_once('/').map_or("", |(_, key)| key))))
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name below the store's prefix, with `/` between parts.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// What changes when its content does, where the store says.
    pub version: String,
}

/// Objects below one address. Calls block, so they must not come from a thread of the async runtime.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    uri: String,
    runtime: Handle,
}

impl Store {
    /// Opens a path, `file://`, `s3://`, `gs://` or `az://` address. A local folder must exist.
    ///
    /// # Errors
    /// As [`connect`]; [`Error::Io`] for a local folder that cannot be opened.
    pub fn open(uri: &str, options: &StoreOptions, runtime: Handle) -> Result<Self, Error> {
        let uri = uri.trim_end_matches('/').to_owned();
        let (objects, prefix) = match local_folder(&uri) {
            Some(path) => {
                let fail =
                    |source: std::io::Error| Error::Io { path: path.clone(), action: "open this folder", source };
                std::fs::metadata(&path).map_err(fail)?;
                let store = LocalFileSystem::new_with_prefix(&path).map_err(|e| fail(std::io::Error::other(e)))?;
                (Arc::new(store) as Arc<dyn ObjectStore>, Path::default())
            }
            None => connect(&uri, options)?,
        };
        Ok(Self { objects, prefix, uri, runtime })
    }

    /// As [`Self::open`], after making a local folder that does not exist yet.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn create(uri: &str, options: &StoreOptions, runtime: Handle) -> Result<Self, Error> {
        if let Some(path) = local_folder(uri) {
            std::fs::create_dir_all(&path).map_err(|source| Error::Io { path, action: "make this folder", source })?;
        }
        Self::open(uri, options, runtime)
    }

    /// The address of an object, for people and as a key of the cache.
    #[must_use]
    pub fn uri(&self, name: &str) -> String {
        if name.is_empty() { self.uri.clone() } else { format!("{}/{name}", self.uri) }
    }

    /// The object's file, where the store is a local folder.
    #[must_use]
    pub fn local_file(&self, name: &str) -> Option<PathBuf> {
        local_folder(&self.uri).map(|folder| folder.join(LocalPath::new(name)))
    }

    /// The runtime that the store's requests run on.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The whole object; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Unreachable`].
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.runtime.block_on(self.fetch(name, None)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::Vanished { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A part of the object.
    ///
    /// # Errors
    /// [`Error::Vanished`], [`Error::Refused`], [`Error::Unreachable`].
    pub fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>, Error> {
        self.runtime.block_on(self.fetch(name, Some(range)))
    }

    /// As [`Self::get_range`], or the whole object, within the runtime.
    ///
    /// # Errors
    /// As [`Self::get_range`].
    pub async fn fetch(&self, name: &str, range: Option<Range<u64>>) -> Result<Vec<u8>, Error> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        let read = async { self.objects.get_opts(&self.path(name), options).await?.bytes().await };
        read.await.map(Into::into).map_err(|e| self.failed("read", name, &e))
    }

    /// The whole object piece by piece, within the runtime.
    ///
    /// # Errors
    /// As [`Self::get_range`], and what `take` says.
    pub async fn stream(&self, name: &str, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let failed = |e: object_store::Error| self.failed("read", name, &e);
        let mut pieces = self.objects.get(&self.path(name)).await.map_err(failed)?.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            take(&piece)?;
        }
        Ok(())
    }

    /// Writes an object whole; nobody sees a part of it.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Unreachable`].
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), Error> {
        let put = self.runtime.block_on(self.objects.put(&self.path(name), bytes.into()));
        put.map(drop).map_err(|e| self.failed("write", name, &e))
    }

    /// Every object below `folder` (empty for all), sorted by the bytes of its name; hidden ones are left out.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Unreachable`].
    pub fn list(&self) -> Result<Vec<Found>, Error> {
        let list = self.objects.list(Some(&self.prefix)).try_collect::<Vec<_>>();
        let list = self.runtime.block_on(list).map_err(|e| self.failed("list", "", &e))?;
        let mut found: Vec<_> = list.into_iter().filter_map(|object| self.found(object)).collect();
        found.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        Ok(found)
    }

    /// The objects directly in the store's prefix, sorted, and whether there are folders beside them.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn top(&self) -> Result<(Vec<Found>, bool), Error> {
        let list = self.runtime.block_on(self.objects.list_with_delimiter(Some(&self.prefix)));
        let list = list.map_err(|e| self.failed("list", "", &e))?;
        let mut found: Vec<_> = list.objects.into_iter().filter_map(|object| self.found(object)).collect();
        found.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        Ok((found, !list.common_prefixes.is_empty()))
    }

    fn found(&self, object: object_store::ObjectMeta) -> Option<Found> {
        let parts: Vec<_> = object.location.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect();
        if parts.is_empty() || parts.iter().any(|part| part.starts_with('.')) {
            return None;
        }
        let version = object.e_tag.unwrap_or_else(|| object.last_modified.to_rfc3339());
        Some(Found { name: parts.join("/"), size: object.size, version })
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// A missing bucket and refused credentials are the user's to mend, a missing object is one sample's misfortune, and
    /// all else may pass.
    fn failed(&self, verb: &str, name: &str, error: &object_store::Error) -> Error {
        use object_store::Error as E;
        let (uri, text) = (self.uri(name), with_causes(error));
        if text.contains("NoSuchBucket") {
            let reason = format!("cannot {verb}: the bucket does not exist; create it or name another");
            return Error::Refused { uri, reason };
        }
        match error {
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                let reason = format!("not allowed to {verb}: {text}; check the credentials in the environment");
                Error::Refused { uri, reason }
            }
            // A refused listing arrives as a generic error.
            E::Generic { .. } if text.contains("403 Forbidden") || text.contains("401 Unauthorized") => {
                let reason = format!("not allowed to {verb}: {text}; check the credentials in the environment");
                Error::Refused { uri, reason }
            }
            E::NotFound { .. } => Error::Vanished { uri },
            _ => Error::Unreachable { uri, reason: format!("cannot {verb}: {text}") },
        }
    }
}

/// An error with its causes, each once.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
