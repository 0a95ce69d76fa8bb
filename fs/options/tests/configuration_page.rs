//! The page for users is the table's.

use homifs_options::help_text;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIGURATION.md");

#[test]
fn configuration_page_has_the_options_of_the_table() {
    let page = std::fs::read_to_string(PAGE).expect("the page is part of the repository");
    let (start, rest) = page.split_once("-->\n").expect("the page says where the options begin");
    let (_, end) = rest.split_once("<!-- end -->").expect("the page says where the options end");
    let made = format!("{start}-->\n\n```text\n{}\n```\n\n<!-- end -->{end}", help_text().trim_end());
    if std::env::var_os("HOMIFS_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &made).expect("write the page");
    } else {
        assert_eq!(page, made, "write it anew: HOMIFS_WRITE_DOCS=1 cargo nextest run -p homifs-options");
    }
}
