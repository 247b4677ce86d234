//! Objects in S3, Google Cloud Storage, Azure Blob Storage and on HTTP servers, copied to local
//! files and back.
//!
//! Credentials and endpoints come from environment variables with the names that the stores' own
//! tools use: all variables that begin with `AWS_`, `GOOGLE_` or `AZURE_`. Secret values are never
//! part of a message. Requests that fail for a temporary reason are sent again by the
//! `object_store` crate: ten times, over at most three minutes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as StorePath;
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode, PutResult,
    UpdateVersion, WriteMultipart,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use url::Url;

use crate::address::without_userinfo;
use crate::{Error, Result};

/// Bytes that are read or written per request. S3 accepts no parts below 5 MiB except the last one.
const CHUNK_BYTES: u64 = 8 << 20;

/// Number of concurrent requests for one object, and of concurrent objects. With [`CHUNK_BYTES`],
/// this limits the memory to 128 MiB.
const AT_ONCE: usize = 4;

/// Time without a write after which an unfinished copy counts as abandoned: longer than a request
/// is retried.
const ABANDONED: Duration = Duration::from_hours(1);

/// Maximum number of parts of an upload to S3.
const MAX_PARTS: u64 = 10_000;

/// Schemes that are read through this module.
const SCHEMES: [&str; 10] = ["s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss", "http", "https"];

/// Prefixes of the environment variables that are passed to the stores.
const PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// A location in an object store: an object, or the common prefix of several objects.
#[derive(Clone)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    scheme: ObjectStoreScheme,
    path: StorePath,
    /// The URL without secrets, for messages.
    url: String,
    /// Secret texts that messages must not contain.
    secrets: Vec<String>,
}

/// An existing object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The last component of its URL.
    pub name: String,
    /// Its URL, without credentials.
    pub url: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Time of the last write, if the store reports it.
    pub modified: Option<SystemTime>,
    tag: Option<String>,
    version: Option<String>,
    path: StorePath,
}

impl Object {
    /// Returns a name for a local copy. The name changes when the object changes. It keeps the
    /// suffixes, because they determine the format. Returns `None` if the store reports neither an
    /// entity tag nor a time of modification, because a change could not be noticed then.
    pub fn cache_name(&self) -> Option<String> {
        if self.tag.is_none() && self.modified.is_none() {
            return None;
        }
        let modified = self.modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let state =
            [self.tag.as_deref().unwrap_or_default(), &self.bytes.to_string(), &modified.as_nanos().to_string()];
        let digest = lynxdata_records::fingerprint([self.url.as_str()].into_iter().chain(state));
        Some(format!("{}{}", &digest[..32], suffixes(&self.name)))
    }
}

/// Returns up to two suffixes at the end of a name, with their dots. Only short alphanumeric
/// suffixes count.
fn suffixes(name: &str) -> String {
    let is_ordinary =
        |suffix: &&str| (1..=10).contains(&suffix.len()) && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let mut found: Vec<&str> = name.rsplit('.').take(3).take_while(is_ordinary).collect();
    found.truncate(name.matches('.').count().min(2));
    found.iter().rev().fold(String::new(), |text, suffix| text + "." + suffix)
}

impl fmt::Debug for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Location").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Returns whether a path is the URL of an object store and not a local path.
pub fn is_url(path: &Path) -> bool {
    let scheme = path.to_str().and_then(|text| text.split_once("://")).map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme.is_some_and(|scheme| SCHEMES.contains(&scheme.as_str()))
}

/// Credentials, endpoints and other settings of the stores, under the names of environment
/// variables.
#[derive(Clone, Default)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    /// Returns the variables of this process that begin with `AWS_`, `GOOGLE_` or `AZURE_`.
    pub fn from_environment() -> Settings {
        let texts =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Settings(texts.filter(|(name, _)| PREFIXES.iter().any(|prefix| name.starts_with(prefix))).collect())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Location {
    /// Parses a URL and sets up the client. Sends no request yet.
    ///
    /// # Errors
    /// [`Error::Object`] if the URL is of no known store or has a query or fragment, or if the
    /// store does not accept a setting.
    pub fn open(text: &str, settings: &Settings) -> Result<Location> {
        let mut settings = settings.0.clone();
        let invalid = |shown: &str, reason: String| Error::Object {
            action: "open",
            url: shown.to_owned(),
            reason,
            hint: String::new(),
        };
        let url = Url::parse(text).map_err(|error| invalid("a URL", error.to_string()))?;
        let shown = without_secrets(&url);
        if url.query().is_some() || url.fragment().is_some() {
            let reason = "the URL has a query or fragment, which is not supported; signed URLs cannot be read, set credentials as environment variables instead";
            return Err(invalid(&shown, reason.to_owned()));
        }
        let secrets = secrets(&url, &settings);
        let refused = |error: &object_store::Error| invalid(&shown, redacted(&error.to_string(), &secrets));
        let (scheme, _) = ObjectStoreScheme::parse(&url).map_err(|error| refused(&error.into()))?;
        if url.scheme() == "http" {
            settings.push(("allow_http".to_owned(), "true".to_owned()));
        }
        let (store, path) = object_store::parse_url_opts(&url, settings).map_err(|error| refused(&error))?;
        Ok(Location { store: store.into(), scheme, path, url: shown, secrets })
    }

    /// Returns the URL without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns whether this is a plain web server, which cannot list its files.
    pub(crate) fn is_web_server(&self) -> bool {
        self.scheme == ObjectStoreScheme::Http
    }

    /// Returns the object with exactly this name; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Object`] if the store refuses or cannot be reached.
    pub async fn head(&self) -> Result<Option<Object>> {
        if self.url.ends_with('/') || self.path.as_ref().is_empty() {
            return Ok(None);
        }
        let answer = match self.store.head(&self.path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            // Some web servers only support GET. Only the headers of the answer are read.
            Err(_) if self.is_web_server() => self.store.get(&self.path).await.map(|got| got.meta),
            answer => answer,
        };
        match answer {
            Ok(meta) => Ok(Some(object(meta, self.url.clone()))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("look up", &self.url, &error)),
        }
    }

    /// Returns the objects directly below this location, sorted by name.
    ///
    /// # Errors
    /// [`Error::Object`] if the store refuses, cannot list, or cannot be reached.
    pub async fn list(&self) -> Result<Vec<Object>> {
        if self.is_web_server() {
            return Err(Error::Object {
                action: "list",
                url: self.url.clone(),
                reason: "a web server does not tell what it has".to_owned(),
                hint: "; name each file".to_owned(),
            });
        }
        let listed = self.store.list_with_delimiter(Some(&self.path)).await;
        let listed = listed.map_err(|error| self.error("list", &self.url, &error))?;
        let folder = self.url.trim_end_matches('/');
        let objects = listed.objects.into_iter().map(|meta| {
            let url = format!("{folder}/{}", meta.location.filename().unwrap_or_default());
            object(meta, url)
        });
        let mut objects: Vec<Object> = objects.collect();
        objects.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(objects)
    }

    /// Returns the objects at any depth below this location, each with its name relative to the
    /// location, sorted by name.
    ///
    /// # Errors
    /// [`Error::Object`] if the store refuses, cannot list, or cannot be reached.
    pub async fn list_below(&self) -> Result<Vec<(String, Object)>> {
        let listed: std::result::Result<Vec<ObjectMeta>, _> = self.store.list(Some(&self.path)).try_collect().await;
        let folder = self.url.trim_end_matches('/');
        let mut objects = Vec::new();
        for meta in listed.map_err(|error| self.error("list", &self.url, &error))? {
            let Some(parts) = meta.location.prefix_match(&self.path) else { continue };
            let name = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
            let url = format!("{folder}/{name}");
            objects.push((name, object(meta, url)));
        }
        objects.sort_by(|(left, _), (right, _)| left.cmp(right));
        Ok(objects)
    }

    /// Returns the error for a location without objects. It suggests the nearest existing name.
    pub async fn missing(&self) -> Error {
        let names = self.names_beside().await;
        let wanted = self.path.filename().unwrap_or_default();
        let nearest = lynxdata_records::nearest(wanted, names.iter().map(String::as_str));
        let hint = nearest.map_or_else(
            || "; check the bucket and the name".to_owned(),
            |name| format!("; did you mean {name:?} there?"),
        );
        Error::Object { action: "read", url: self.url.clone(), reason: "nothing is there".to_owned(), hint }
    }

    /// Returns the names beside this location. They are only for a hint, so errors are ignored.
    async fn names_beside(&self) -> Vec<String> {
        let parts: Vec<_> = self.path.parts().collect();
        let Some((_, parent)) = parts.split_last().filter(|_| !self.is_web_server()) else { return Vec::new() };
        let parent: StorePath = parent.iter().cloned().collect();
        let Ok(listed) = self.store.list_with_delimiter(Some(&parent)).await else { return Vec::new() };
        let objects = listed.objects.iter().filter_map(|meta| meta.location.filename());
        let folders = listed.common_prefixes.iter().filter_map(StorePath::filename);
        objects.chain(folders).map(str::to_owned).collect()
    }

    /// Copies an object to a local file, which appears only when it is complete. Uses at most 32
    /// MiB of memory.
    ///
    /// # Errors
    /// [`Error::Object`] if the store refuses or fails, or if the object has changed meanwhile;
    /// [`Error::Write`] if the file cannot be written.
    pub async fn get(&self, object: &Object, file: &Path) -> Result<()> {
        let temporary = beside(file);
        let copied = self.copy(object, &temporary).await;
        let renamed =
            copied.and_then(|()| std::fs::rename(&temporary, file).map_err(|source| Error::write(file, source)));
        if renamed.is_err() {
            std::fs::remove_file(&temporary).unwrap_or_default(); // it may not even have been created
        }
        renamed
    }

    async fn copy(&self, object: &Object, file: &Path) -> Result<()> {
        let write_error = |source| Error::write(file, source);
        let mut output = tokio::fs::File::create(file).await.map_err(write_error)?;
        let mut written = 0;
        let mut chunks = self.chunks(object);
        while let Some(bytes) = chunks.try_next().await? {
            output.write_all(&bytes).await.map_err(write_error)?;
            written += bytes.len() as u64;
        }
        if written != object.bytes {
            return Err(changed(&object.url, &format!("{written} bytes were received instead of {}", object.bytes)));
        }
        output.sync_all().await.map_err(write_error)?;
        let output = output.into_std().await;
        match object.modified {
            Some(time) => output.set_modified(time).map_err(write_error),
            None => Ok(()),
        }
    }

    /// Returns the content of an object in order. Long objects of a store are read in several
    /// concurrent ranges. Objects of a web server are read in one stream, because it may not
    /// support ranges.
    fn chunks<'a>(&'a self, object: &'a Object) -> BoxStream<'a, Result<Vec<u8>>> {
        if self.is_web_server() {
            let whole = async {
                let got = self.store.get_opts(&object.path, GetOptions::default()).await;
                let got = got.map_err(|error| self.error("read", &object.url, &error))?;
                check_unchanged(object, &got)?;
                let bytes = got.into_stream().map_ok(Vec::from);
                Ok(bytes.map_err(|error| self.error("read", &object.url, &error)))
            };
            return futures::stream::once(whole).try_flatten().boxed();
        }
        let starts = (0..object.bytes.max(1)).step_by(CHUNK_BYTES as usize);
        let is_whole = object.bytes <= CHUNK_BYTES;
        let ranges = starts.map(move |start| (start..(start + CHUNK_BYTES).min(object.bytes), is_whole));
        let (this, object) = (self.clone(), object.clone());
        futures::stream::iter(ranges.collect::<Vec<_>>())
            .map(move |(range, is_whole)| {
                let (this, object) = (this.clone(), object.clone());
                async move {
                    let range = (!is_whole).then_some(GetRange::Bounded(range));
                    let options = GetOptions { range, ..GetOptions::default() };
                    let got = this.store.get_opts(&object.path, options).await;
                    let got = got.map_err(|error| this.error("read", &object.url, &error))?;
                    check_unchanged(&object, &got)?;
                    let bytes = got.bytes().await.map_err(|error| this.error("read", &object.url, &error))?;
                    Ok(bytes.into())
                }
            })
            .buffered(AT_ONCE)
            .boxed()
    }

    /// Copies a local file to the object `name` below this location, in parts if it is long. The
    /// object appears only when it is complete, and its length is checked afterwards. Uses at most
    /// 40 MiB of memory, or more for files above 78 GiB.
    ///
    /// # Errors
    /// [`Error::Object`] if the store refuses or fails, [`Error::Read`] if the file cannot be read.
    pub async fn put(&self, file: &Path, name: &str) -> Result<Object> {
        let path = StorePath::parse(format!("{}/{name}", self.path))
            .map_err(|error| self.error("name", name, &error.into()))?;
        let url = format!("{}/{name}", self.url.trim_end_matches('/'));
        let read_error = |source| Error::read(file, source);
        let failed = |error: object_store::Error| self.error("write", &url, &error);
        let mut input = tokio::fs::File::open(file).await.map_err(read_error)?;
        let length = input.metadata().await.map_err(read_error)?.len();
        if length <= CHUNK_BYTES {
            let mut bytes = Vec::new();
            input.read_to_end(&mut bytes).await.map_err(read_error)?;
            self.store.put(&path, bytes.into()).await.map_err(failed)?;
        } else {
            let part = CHUNK_BYTES.max(length.div_ceil(MAX_PARTS)) as usize;
            let upload = self.store.put_multipart(&path).await.map_err(failed)?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
            let mut buffer = vec![0; part];
            loop {
                let read = match input.read(&mut buffer).await {
                    Ok(read) => read,
                    Err(source) => {
                        upload.abort().await.map_err(failed)?;
                        return Err(read_error(source));
                    }
                };
                if read == 0 {
                    break;
                }
                if let Err(error) = upload.wait_for_capacity(AT_ONCE).await {
                    upload.abort().await.map_err(failed)?;
                    return Err(failed(error));
                }
                upload.write(&buffer[..read]);
            }
            upload.finish().await.map_err(failed)?;
        }
        let meta = self.store.head(&path).await.map_err(failed)?;
        if meta.size != length {
            return Err(changed(&url, &format!("it has {} bytes instead of {length}", meta.size)));
        }
        Ok(object(meta, url))
    }

    /// Returns the whole content of an object. Use it for small objects only.
    ///
    /// # Errors
    /// [`Error::Object`] if the store refuses or fails, or if the object has changed meanwhile.
    pub async fn read(&self, object: &Object) -> Result<Vec<u8>> {
        self.chunks(object).try_concat().await
    }

    /// Writes this object if the store still has the version `before` (`None`: no object).
    /// Otherwise writes nothing and returns `None`. So if two processes write to one location, one
    /// of them notices the other. Stores that cannot compare versions, such as web servers, always
    /// write.
    ///
    /// # Errors
    /// [`Error::Object`] if the store refuses or fails.
    pub async fn replace(&self, bytes: &[u8], before: Option<&Object>) -> Result<Option<Object>> {
        let mode = match before {
            None => PutMode::Create,
            Some(Object { tag: None, version: None, .. }) => PutMode::Overwrite,
            Some(Object { tag, version, .. }) => {
                PutMode::Update(UpdateVersion { e_tag: tag.clone(), version: version.clone() })
            }
        };
        let put = async |mode: PutMode| self.store.put_opts(&self.path, bytes.to_vec().into(), mode.into()).await;
        let written = match put(mode).await {
            Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                put(PutMode::Overwrite).await
            }
            written => written,
        };
        match written {
            Ok(PutResult { e_tag, version, .. }) => {
                let name = self.path.filename().unwrap_or_default().to_owned();
                let (url, path) = (self.url.clone(), self.path.clone());
                Ok(Some(Object { name, url, bytes: bytes.len() as u64, modified: None, tag: e_tag, version, path }))
            }
            // The earlier write may have been ours, with a lost answer. Then the content is equal.
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                let Some(there) = self.head().await? else { return Ok(None) };
                Ok((there.bytes == bytes.len() as u64 && self.read(&there).await? == bytes).then_some(there))
            }
            Err(error) => Err(self.error("write", &self.url, &error)),
        }
    }

    /// Removes this object, if it exists.
    ///
    /// # Errors
    /// [`Error::Object`] if the store refuses or fails.
    pub async fn delete(&self) -> Result<()> {
        match self.store.delete(&self.path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("remove", &self.url, &error)),
        }
    }

    fn error(&self, action: &'static str, url: &str, error: &object_store::Error) -> Error {
        let reason = redacted(&error.to_string(), &self.secrets);
        let is_refused =
            matches!(error, object_store::Error::Unauthenticated { .. } | object_store::Error::PermissionDenied { .. });
        // In object_store 0.13, missing credentials, and http where https is required, are
        // `Generic` errors. So they are recognised by their messages.
        let is_generic = matches!(error, object_store::Error::Generic { .. });
        let mentions = |words: &[&str]| is_generic && words.iter().any(|word| reason.to_lowercase().contains(word));
        let hint = if is_refused || mentions(&["credential", "169.254.169.254", "metadata.google"]) {
            match self.scheme {
                ObjectStoreScheme::AmazonS3 => {
                    "; set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or AWS_SKIP_SIGNATURE=true for a public bucket"
                }
                ObjectStoreScheme::GoogleCloudStorage => {
                    "; set GOOGLE_SERVICE_ACCOUNT to a key file, or GOOGLE_SKIP_SIGNATURE=true for a public bucket"
                }
                ObjectStoreScheme::MicrosoftAzure => {
                    "; set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true for a public container"
                }
                _ => "; the server requires a login",
            }
        } else if mentions(&["url scheme is not allowed", "allow_http"]) {
            "; set AWS_ALLOW_HTTP=true for an endpoint without TLS"
        } else {
            ""
        };
        Error::Object { action, url: url.to_owned(), reason, hint: hint.to_owned() }
    }
}

fn object(meta: ObjectMeta, url: String) -> Object {
    let ObjectMeta { location, last_modified, size, e_tag, version } = meta;
    let seconds = u64::try_from(last_modified.timestamp()).ok().filter(|seconds| *seconds > 0);
    let modified = seconds.map(|seconds| UNIX_EPOCH + Duration::new(seconds, last_modified.timestamp_subsec_nanos()));
    let name = location.filename().unwrap_or_default().to_owned();
    Object { name, url, bytes: size, modified, tag: e_tag, version, path: location }
}

fn check_unchanged(object: &Object, got: &GetResult) -> Result<()> {
    let is_other = object.tag.as_ref().zip(got.meta.e_tag.as_ref()).is_some_and(|(before, now)| before != now);
    if is_other || got.meta.size != object.bytes {
        return Err(changed(&object.url, "it is no longer the same object as when it was listed"));
    }
    Ok(())
}

fn changed(url: &str, reason: &str) -> Error {
    let hint = "; it has changed meanwhile, so try again".to_owned();
    Error::Object { action: "copy", url: url.to_owned(), reason: reason.to_owned(), hint }
}

/// Returns the temporary name of a file that is being written.
fn beside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

/// Removes abandoned unfinished copies.
fn remove_abandoned(folder: &Path) {
    // Errors are ignored; the next run tries again.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_hidden = name.as_encoded_bytes().starts_with(b".");
        let is_in_the_making = is_hidden && Path::new(&name).extension().is_some_and(|suffix| suffix == "part");
        let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = modified.and_then(|modified| modified.elapsed().ok());
        if is_in_the_making && age.is_some_and(|age| age > ABANDONED) {
            std::fs::remove_file(entry.path()).unwrap_or_default();
        }
    }
}

/// Returns a URL without secrets: without password, query and fragment, and for web servers without
/// user name.
pub fn shown(url: &str) -> String {
    Url::parse(url).map_or_else(|_| without_userinfo(url).into_owned(), |url| without_secrets(&url))
}

fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both calls fail only for URLs that cannot have a password or user.
    url.set_password(None).unwrap_or_default();
    if matches!(url.scheme(), "http" | "https") {
        url.set_username("").unwrap_or_default();
    }
    url.to_string()
}

/// Returns the values that messages must not contain: settings whose names contain one of the words
/// below, and the password of the URL.
fn secrets(url: &Url, settings: &[(String, String)]) -> Vec<String> {
    let is_secret = |name: &str| {
        ["KEY", "SECRET", "TOKEN", "SAS", "PASSWORD", "CREDENTIAL", "ACCOUNT", "CLIENT_ID"]
            .iter()
            .any(|word| name.contains(word))
    };
    let settings =
        settings.iter().filter(|(name, _)| is_secret(&name.to_ascii_uppercase())).map(|(_, value)| value.clone());
    let mut secrets: Vec<String> =
        settings.chain(url.password().map(str::to_owned)).filter(|text| text.len() > 3).collect();
    // Longer secrets come first, because a secret may contain another one.
    secrets.sort_by_key(|text| std::cmp::Reverse(text.len()));
    secrets
}

/// Returns a store's message without secrets and without the queries of URLs. An XML answer is
/// reduced to its code and message.
fn redacted(message: &str, secrets: &[String]) -> String {
    let mut text = match message.find("<?xml").or_else(|| message.find("<Error")) {
        Some(start) => {
            let (before, xml) = message.split_at(start);
            let element = |name: &str| {
                let (_, rest) = xml.split_once(&format!("<{name}>"))?;
                rest.split_once("</").map(|(value, _)| value)
            };
            let told: Vec<&str> = ["Code", "Message"].into_iter().filter_map(element).collect();
            format!("{before}{}", told.join(": "))
        }
        None => message.to_owned(),
    };
    for secret in secrets {
        text = text.replace(secret, "…");
    }
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((url, _)) if url.contains("://") => format!("{url}?…"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A local folder with copies of objects.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    settings: Settings,
}

impl Cache {
    /// Returns a cache in this folder, which is created when it is needed. Only unfinished copies
    /// of killed processes are ever removed from it.
    pub fn new(folder: impl Into<PathBuf>, settings: Settings) -> Cache {
        Cache { folder: folder.into(), settings }
    }

    /// Opens a location whose objects are to be copied.
    pub(crate) fn open(&self, url: &str) -> Result<Location> {
        Location::open(url, &self.settings)
    }

    /// Returns the paths of local copies of objects, in their order. Existing copies are not
    /// downloaded again.
    ///
    /// # Errors
    /// Those of [`Location::get`], and [`Error::Write`] if the folder cannot be created.
    pub async fn copies(&self, location: &Location, objects: &[Object]) -> Result<Vec<PathBuf>> {
        std::fs::create_dir_all(&self.folder).map_err(|source| Error::write(&self.folder, source))?;
        remove_abandoned(&self.folder);
        let copies = objects.iter().map(|object| self.copy(location, object));
        futures::stream::iter(copies.collect::<Vec<_>>()).buffered(AT_ONCE).try_collect().await
    }

    async fn copy(&self, location: &Location, object: &Object) -> Result<PathBuf> {
        let known = object.cache_name();
        let name = known.clone().unwrap_or_else(|| {
            let digest = lynxdata_records::fingerprint(["unversioned", &object.url]);
            format!("{}{}", &digest[..32], suffixes(&object.name))
        });
        let file = self.folder.join(name);
        let is_there = std::fs::metadata(&file).is_ok_and(|metadata| metadata.len() == object.bytes);
        if known.is_none() || !is_there {
            tracing::info!(url = %object.url, bytes = object.bytes, "copying an object");
            location.get(object, &file).await?;
        }
        Ok(file)
    }
}

/// Blocks until a future has finished on its own thread and runtime, so that it can be called with
/// or without a runtime.
pub(crate) fn wait_for<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|source| Error::read("the object store", source))?.block_on(future)
    };
    let finished = std::thread::scope(|scope| scope.spawn(run).join());
    finished.unwrap_or_else(|_| {
        Err(Error::read(
            "the object store",
            io::Error::other("the reader of object stores panicked; this is a bug, please report it"),
        ))
    })
}

#[cfg(test)]
pub(crate) mod tests;
