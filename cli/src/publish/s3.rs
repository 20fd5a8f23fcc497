//! Checkpoints in an S3-compatible bucket, by signed addresses: `<prefix>/<ledger id>/checkpoint` and
//! `<prefix>/<ledger id>/checkpoints/<size>`, which is written only where there is none.

use std::sync::Once;
use std::time::Duration;

use reqwest::header::IF_NONE_MATCH;
use reqwest::{Client, StatusCode, Url};
use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};

use super::Publication;
use crate::environment::Environment;
use crate::exit::{Exit, Failure, environment};

/// How long a signed address is good for, and the longest time of a request.
const LIMIT: Duration = Duration::from_secs(30);

struct Place {
    bucket: Bucket,
    credentials: Credentials,
    client: Client,
}

/// Puts it into the bucket.
pub(super) async fn put(
    publication: &Publication<'_>,
    variables: &Environment,
    bucket: &str,
    prefix: &str,
) -> Result<(), Failure> {
    let place = Place::new(variables, bucket)?;
    let own = match prefix {
        "" => publication.folder_name(),
        prefix => format!("{prefix}/{}", publication.folder_name()),
    };
    let last = format!("{own}/checkpoint");
    let each = format!("{own}/checkpoints/{}", publication.published().size());
    if let Some(found) = place.get(&last).await? {
        publication.extends(&last, &found).await?;
    }
    let note = publication.checkpoint.to_string();
    if !place.put(&each, &note, true).await? {
        let found = place.get(&each).await?.unwrap_or_default();
        publication.extends(&each, &found).await?;
    }
    place.put(&last, &note, false).await.map(drop)
}

impl Place {
    fn new(variables: &Environment, bucket: &str) -> Result<Self, Failure> {
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
        let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), region);
        let bucket = bucket.map_err(Failure::usage)?;
        let client = Client::builder()
            .timeout(LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        Ok(Self {
            bucket,
            credentials,
            client: client.map_err(environment("make the client for the bucket"))?,
        })
    }

    /// An object, if it is there.
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let what = || format!("read {name} in the bucket");
        let address = self.bucket.get_object(Some(&self.credentials), name);
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

    /// Writes an object; false where one is there and only a new one was wanted.
    async fn put(&self, name: &str, text: &str, only_new: bool) -> Result<bool, Failure> {
        let what = || format!("write {name} in the bucket");
        let mut action = self.bucket.put_object(Some(&self.credentials), name);
        if only_new {
            action.headers_mut().insert("if-none-match", "*");
        }
        let mut request = self.client.put(action.sign(LIMIT)).body(text.to_owned());
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
