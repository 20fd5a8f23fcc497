//! A place in an S3-compatible bucket, written and read by signed addresses.

use std::fmt;
use std::str::FromStr;
use std::sync::Once;
use std::time::Duration;

use reqwest::header::IF_NONE_MATCH;
use reqwest::{Client, StatusCode, Url};
use rusty_s3::{Credentials, S3Action as _, UrlStyle};

use crate::environment::Environment;
use crate::exit::{Exit, Failure, environment};

/// How long a signed address is good for, and the longest time of a request.
const LIMIT: Duration = Duration::from_secs(30);

/// `s3://bucket/prefix`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The bucket.
    bucket: String,
    /// In front of each name; may be empty.
    prefix: String,
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("s3://");
        let rest = rest.ok_or_else(|| "is not s3://BUCKET/PREFIX".to_owned())?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err("names no bucket".to_owned());
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

/// An open place. Names are below its prefix.
#[derive(Debug)]
pub(crate) struct Bucket {
    prefix: String,
    objects: rusty_s3::Bucket,
    credentials: Credentials,
    client: Client,
}

impl Bucket {
    /// Takes address and credentials from the environment; nothing is sent yet.
    pub(crate) fn open(variables: &Environment, place: &Place) -> Result<Self, Failure> {
        static PROVIDER: Once = Once::new();
        // Another client of this process may have been first.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let needed = |name: &str, value: Option<&str>| {
            let missing = || {
                Failure::usage(format_args!("{name} is not set"))
                    .hint("s3:// takes AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION or AWS_ENDPOINT_URL")
            };
            value.map(str::to_owned).ok_or_else(missing)
        };
        let key = needed("AWS_ACCESS_KEY_ID", variables.get("AWS_ACCESS_KEY_ID"))?;
        let secret = needed(
            "AWS_SECRET_ACCESS_KEY",
            variables.get("AWS_SECRET_ACCESS_KEY"),
        )?;
        let credentials = match variables.get("AWS_SESSION_TOKEN") {
            Some(token) => Credentials::new_with_token(key, secret, token),
            None => Credentials::new(key, secret),
        };
        let region = variables
            .get("AWS_REGION")
            .unwrap_or("us-east-1")
            .to_owned();
        let endpoint = match variables.get("AWS_ENDPOINT_URL") {
            Some(endpoint) => endpoint.to_owned(),
            None => format!("https://s3.{region}.amazonaws.com"),
        };
        let endpoint: Url = endpoint
            .parse()
            .map_err(|_| Failure::usage("AWS_ENDPOINT_URL is no address"))?;
        let bucket = rusty_s3::Bucket::new(endpoint, UrlStyle::Path, place.bucket.clone(), region);
        let bucket = bucket.map_err(Failure::usage)?;
        let client = Client::builder()
            .timeout(LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Ok(Self {
            prefix: place.prefix.clone(),
            objects: bucket,
            credentials,
            client: client.map_err(environment("make the client for the bucket"))?,
        })
    }

    fn object(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    /// An object, if it is there.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let object = self.object(name);
        let what = || format!("read {object} in the bucket");
        let address = self.objects.get_object(Some(&self.credentials), &object);
        let answer = self.client.get(address.sign(LIMIT)).send().await;
        // The address is left out of the error: it is signed.
        let answer = answer.map_err(|error| environment(what())(error.without_url()))?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                let body = answer.bytes().await;
                let body = body.map_err(|error| environment(what())(error.without_url()))?;
                Ok(Some(body.to_vec()))
            }
            status => Err(refused(&what(), status)),
        }
    }

    /// Writes an object, over one that is there.
    pub(crate) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        self.write(name, bytes, false).await.map(drop)
    }

    /// Writes an object where there is none; false where there is one, which stays as it is.
    pub(crate) async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<bool, Failure> {
        self.write(name, bytes, true).await
    }

    async fn write(&self, name: &str, bytes: Vec<u8>, only_new: bool) -> Result<bool, Failure> {
        let object = self.object(name);
        let what = || format!("write {object} in the bucket");
        let mut action = self.objects.put_object(Some(&self.credentials), &object);
        if only_new {
            action.headers_mut().insert("if-none-match", "*");
        }
        let mut request = self.client.put(action.sign(LIMIT)).body(bytes);
        if only_new {
            request = request.header(IF_NONE_MATCH, "*");
        }
        let answer = request.send().await;
        let answer = answer.map_err(|error| environment(what())(error.without_url()))?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::PRECONDITION_FAILED if only_new => Ok(false),
            status => Err(refused(&what(), status)),
        }
    }
}

fn refused(what: &str, status: StatusCode) -> Failure {
    Failure::new(
        Exit::Environment,
        anyhow::anyhow!("{what}: answered {status}"),
    )
    .hint("look at the bucket's name, its policy and the AWS_ variables")
}
