//! Leaves out of a listing the objects that the client cannot address, and keeps their keys.
//!
//! A key in object storage may be almost any text. [`object_store`] takes no key with an empty, `.` or `..` part or with a
//! control character, and one of them fails a listing as a whole. The responses are therefore edited before it reads them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::path::Path;

/// Keys of objects that listings left out, shared with the connections of a client.
#[derive(Debug, Clone, Default)]
pub(super) struct UnusableKeys(Arc<Mutex<BTreeSet<String>>>);

impl UnusableKeys {
    /// The keys so far, in the order of their bytes.
    pub(super) fn keys(&self) -> Vec<String> {
        self.0.lock().map(|keys| keys.iter().cloned().collect()).unwrap_or_default()
    }

    fn add(&self, key: String) {
        if let Ok(mut keys) = self.0.lock() {
            keys.insert(key);
        }
    }
}

impl HttpConnector for UnusableKeys {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Connection { inner, unusable: self.clone() }))
    }
}

/// A connection whose listings have usable keys only.
#[derive(Debug)]
struct Connection {
    inner: HttpClient,
    unusable: UnusableKeys,
}

#[async_trait]
impl HttpService for Connection {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let query = request.uri().query().unwrap_or_default();
        // ListObjectsV2 of S3 and Google, List Blobs of Azure.
        let lists = query.split('&').any(|part| matches!(part, "list-type=2" | "comp=list"));
        let response = self.inner.execute(request).await?;
        if !lists || !response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let mut bytes = body.bytes().await?;
        if let Some(usable) =
            std::str::from_utf8(&bytes).ok().and_then(|text| usable(text, |key| self.unusable.add(key)))
        {
            bytes = usable.into();
        }
        Ok(HttpResponse::from_parts(parts, bytes.into()))
    }
}

/// Elements of a listing, with the element in them that has the key, and whether it is an object's.
const ELEMENTS: [(&str, &str, bool); 4] = [
    ("Contents", "Key", true),
    ("CommonPrefixes", "Prefix", false),
    ("Blob", "Name", true),
    ("BlobPrefix", "Name", false),
];

/// The listing without the elements whose keys the client refuses; `None` if there are none. `left_out` gets the keys of
/// objects.
fn usable(listing: &str, mut left_out: impl FnMut(String)) -> Option<String> {
    let mut edited: Option<String> = None;
    for (element, name, is_object) in ELEMENTS {
        let (begin, end) = (format!("<{element}>"), format!("</{element}>"));
        let text = edited.as_deref().unwrap_or(listing);
        let (mut kept, mut rest, mut changed) = (String::new(), text, false);
        // Text and attributes of XML have no `<`, so the marks are found in no key.
        while let Some(start) = rest.find(&begin) {
            let Some(length) = rest[start..].find(&end) else { break };
            let (before, after) = (&rest[..start], &rest[start + length + end.len()..]);
            let key = inner(&rest[start..start + length], name).unwrap_or_default();
            let key = quick_xml::escape::unescape(key).map_err(|_| key);
            kept.push_str(before);
            match key {
                Ok(key) if Path::parse(&key).is_ok() => kept.push_str(&rest[start..start + length + end.len()]),
                key => {
                    changed = true;
                    if is_object {
                        left_out(key.map_or_else(str::to_owned, |key| key.into_owned()));
                    }
                }
            }
            rest = after;
        }
        if changed {
            kept.push_str(rest);
            edited = Some(kept);
        }
    }
    edited
}

/// The text between `<name>` and `</name>`.
fn inner<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_the_client_refuses_are_left_out_by_name() {
        let object = |key: &str| format!("<Contents><Key>{key}</Key><Size>3</Size></Contents>");
        let blob = |key: &str| format!("<Blob><Name>{key}</Name></Blob>");
        let folder = |key: &str| format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>");
        let listing = |objects: &[String]| format!("<L><Prefix>a//</Prefix>{}</L>", objects.concat());
        for (all, kept, keys) in [
            (vec![object("a/1.jpg"), folder("a/")], vec![object("a/1.jpg"), folder("a/")], vec![]),
            (
                vec![object("a//1.jpg"), object("a/2.jpg"), object("a/&#x9;3.jpg"), object("a/\t4.jpg")],
                vec![object("a/2.jpg")],
                vec!["a//1.jpg", "a/\t3.jpg", "a/\t4.jpg"],
            ),
            (vec![object("../1.jpg"), object("a&amp;b/..c.jpg")], vec![object("a&amp;b/..c.jpg")], vec!["../1.jpg"]),
            (vec![folder("a//"), folder("b/")], vec![folder("b/")], vec![]),
            (vec![blob("./1.jpg"), blob("1.jpg")], vec![blob("1.jpg")], vec!["./1.jpg"]),
        ] {
            let (whole, mut found) = (listing(&all), Vec::new());
            let edited = usable(&whole, |key| found.push(key));
            assert_eq!(edited.unwrap_or(whole), listing(&kept));
            assert_eq!(found, keys);
        }
    }
}
