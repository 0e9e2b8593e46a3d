//! What object storage lists that can never be read is no passing fault.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use simsiam_data::storage::{ListedObject, Storage, StorageErrorKind, StorageOptions};
use simsiam_data::{Access, Error, open};

/// Credentials come from the environment, which a test must not change: the test runs itself with them.
fn with_credentials(test: &str) -> bool {
    if std::env::var_os("AWS_SECRET_ACCESS_KEY").is_some_and(|secret| secret == "secret") {
        return true;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args([test, "--exact", "--nocapture"]).env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
    for name in ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"] {
        again.env_remove(name);
    }
    assert!(again.status().unwrap().success());
    false
}

fn options(endpoint: &str) -> StorageOptions {
    StorageOptions {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".into()),
        retry_timeout: std::time::Duration::from_secs(2),
    }
}

/// An S3 server whose bucket has `train/a/1.jpg` and one object of this key, as its XML writes it.
fn server_with(key: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            if !String::from_utf8_lossy(&request).contains("list-type=2") {
                let _ = write!(stream, "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            let object = |key: &str| {
                format!(
                    "<Contents><Key>{key}</Key><Size>3</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                     <ETag>\"e\"</ETag></Contents>"
                )
            };
            let body = format!(
                "<?xml version=\"1.0\"?><ListBucketResult>{}{}</ListBucketResult>",
                object("train/a/1.jpg"),
                object(key)
            );
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length:";
            let _ = write!(stream, "{head} {}\r\n\r\n{body}", body.len());
        }
    });
    format!("http://{address}")
}

fn refusal(result: Result<impl Sized, Error>) -> String {
    match result.err().unwrap() {
        Error::Storage { kind: StorageErrorKind::Refused, reason, .. } => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn key_that_cannot_be_read_is_skipped_by_name() {
    if !with_credentials("key_that_cannot_be_read_is_skipped_by_name") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (key, named) in [
        ("train//x.jpg", "/x.jpg"),
        ("train/a\tb.jpg", "a\tb.jpg"),
        ("train/a&#x9;b.jpg", "a\tb.jpg"),
        ("train/../x.jpg", "../x.jpg"),
    ] {
        let options = options(&server_with(key));
        let storage = Storage::open("s3://b/train", &options, runtime.handle().clone()).unwrap();
        let names = |objects: Vec<ListedObject>| objects.into_iter().map(|object| object.name).collect::<Vec<_>>();
        assert_eq!(names(storage.list().unwrap()), ["a/1.jpg"], "{key}");
        assert_eq!(storage.unusable_keys(), [named]);
        storage.list_folder("").unwrap();
        assert_eq!(storage.unusable_keys(), [named]);

        let access = Access { storage: options, ..Access::new(runtime.handle().clone()) };
        let source = open("s3://b/train", None, &access).unwrap();
        assert_eq!((source.len(), source.name(0)), (1, "a/1.jpg"));
        let (total, lines) = (source.listing_report().total(), source.listing_report().lines().concat());
        assert!(total == 1 && lines.contains(&format!("{named:?}")) && lines.contains("rename"), "{lines}");
    }
}

#[test]
fn endpoint_that_is_no_http_address_is_refused_by_name() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for endpoint in ["localhost:9000", "host", "ftp://host", "http://", "http://a b"] {
        let reason = refusal(Storage::open("s3://b/train", &options(endpoint), runtime.handle().clone()));
        assert!(reason.contains(endpoint) && reason.contains("expected http://host:port"), "{reason}");
    }
}
