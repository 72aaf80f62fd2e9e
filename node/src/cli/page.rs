use aesp_proto::v1;
use clap::Args;

/// Which part of a listing is wanted.
#[derive(Args, Debug)]
pub(crate) struct Page {
    /// At most so many, up to 1000.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Where the previous part ended.
    #[arg(long, default_value = "", hide_default_value = true)]
    cursor: String,
}

impl From<Page> for Option<v1::Page> {
    fn from(page: Page) -> Self {
        Some(v1::Page { limit: page.limit, cursor: page.cursor })
    }
}
