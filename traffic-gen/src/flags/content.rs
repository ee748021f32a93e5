//! Flags that say what the mail contains.

use std::path::PathBuf;

use clap::Args;
use traffic_gen::{
    CORPUS_BYTES_DEFAULT, ContentPlan, Corpus, POOL_BODIES_MAX, POOL_BYTES_DEFAULT, Plan, SizeDistribution,
    parse,
};

use super::Refusal;

#[derive(Args)]
pub(crate) struct ContentFlags {
    /// Bytes of each body: SIZE, uniform:MIN-MAX, lognormal:MEDIAN:SIGMA (sigma of the natural logarithm),
    /// list:SIZE:WEIGHT,... or corpus:FOLDER to send the messages in its .eml files
    #[arg(long, value_name = "SIZES", default_value = "1024", value_parser = body_size)]
    body_size: BodySize,
    /// Send this file instead: a body, or a whole message whose header is kept except for the fields that
    /// differ per message
    #[arg(long, value_name = "FILE", conflicts_with = "body_size")]
    body_file: Option<PathBuf>,
    /// How much of each body is random characters that do not compress; the rest is words
    #[arg(long, value_name = "PERCENT", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    random_bytes: u8,
    /// Different bodies to make, or files to take from a corpus [default: 256 of one size, 1000 of a
    /// distribution]
    #[arg(long, value_name = "N", value_parser = pool)]
    pool: Option<usize>,
    /// Memory for the bodies; one larger body is made all the same [default: 4MiB, of a corpus 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    pool_bytes: Option<usize>,
    /// Add a header field; may be repeated
    #[arg(long, value_name = "'NAME: VALUE'", value_parser = header)]
    header: Vec<String>,
}

impl ContentFlags {
    pub(crate) fn apply(&self, plan: &mut Plan) -> Result<(), Refusal> {
        plan.content = ContentPlan {
            headers: self.header.clone(),
            random_percent: self.random_bytes,
            pool_bodies: self.pool,
            pool_bytes: self.pool_bytes.unwrap_or(POOL_BYTES_DEFAULT),
            ..self.bodies()?
        };
        Ok(())
    }

    /// Where bodies come from. Reads files; says on standard error which it leaves out.
    fn bodies(&self) -> Result<ContentPlan, Refusal> {
        if let Some(path) = &self.body_file {
            let file = std::fs::read(path);
            return file
                .map(ContentPlan::file)
                .map_err(|error| Refusal::usage(format!("cannot read {}: {error}", path.display())));
        }
        match &self.body_size {
            BodySize::Made(sizes) => Ok(ContentPlan { sizes: sizes.clone(), ..ContentPlan::default() }),
            BodySize::Corpus(folder) => {
                let (files_max, bytes_max) =
                    (self.pool.unwrap_or(POOL_BODIES_MAX), self.pool_bytes.unwrap_or(CORPUS_BYTES_DEFAULT));
                let corpus = Corpus::read(folder, files_max, bytes_max)
                    .map_err(|error| Refusal::usage(error.to_string()))?;
                corpus.notes.iter().for_each(|note| eprintln!("traffic-gen: {note}"));
                Ok(ContentPlan { files: corpus.files, ..ContentPlan::default() })
            }
        }
    }
}

/// What `--body-size` says.
#[derive(Clone)]
enum BodySize {
    Made(SizeDistribution),
    Corpus(PathBuf),
}

fn body_size(text: &str) -> Result<BodySize, String> {
    match text.strip_prefix("corpus:") {
        Some("") => Err("corpus: names no folder; write it like corpus:/var/mail/samples".to_owned()),
        Some(folder) => Ok(BodySize::Corpus(folder.into())),
        None => text.parse().map(BodySize::Made),
    }
}

fn pool(text: &str) -> Result<usize, String> {
    let bodies = parse::count(text).map_err(|error| error.to_string())?;
    let bodies = usize::try_from(bodies).ok().filter(|bodies| *bodies <= POOL_BODIES_MAX);
    bodies.ok_or_else(|| format!("{text} bodies are too many; {POOL_BODIES_MAX} are allowed"))
}

fn header(text: &str) -> Result<String, String> {
    traffic_gen::check_header(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}
