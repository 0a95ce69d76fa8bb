//! Man pages and completions, from the same definition as the parser.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::Result;
use crate::arguments::Arguments;
use crate::failure::Failure;

/// Writes `homifs.1`, one page for each command, and pages for the mount helpers.
pub(crate) fn man_pages(directory: &Path) -> Result {
    let mut command = Arguments::command();
    command.build();
    let shown: Vec<_> = command.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    write(directory, "homifs.1", &page(&command)?)?;
    for subcommand in shown.iter().filter(|subcommand| subcommand.get_name() != "help") {
        let name = format!("homifs-{}", subcommand.get_name());
        let mut page = page(subcommand)?;
        if subcommand.get_name() == "mount" {
            page.extend_from_slice(homifs_options::man_section().as_bytes());
        }
        write(directory, &format!("{name}.1"), &page)?;
    }
    for helper in ["mount.homifs.8", "mount.fuse.homifs.8"] {
        write(directory, helper, b".so man1/homifs-mount.1\n")?;
    }
    Ok(())
}

fn page(command: &clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    // The options have a section of their own there.
    let command = command.clone().after_long_help(None::<&str>).disable_help_subcommand(true);
    Man::new(command).render(&mut page)?;
    Ok(page)
}

fn write(directory: &Path, name: &str, page: &[u8]) -> Result {
    let path = directory.join(name);
    fs::write(&path, page).map_err(|error| Failure::io(path.display(), &error))
}

pub(crate) fn completions(shell: Shell) -> Result {
    clap_complete::generate(shell, &mut Arguments::command(), "homifs", &mut io::stdout());
    Ok(())
}
