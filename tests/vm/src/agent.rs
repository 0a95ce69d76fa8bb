//! The host's side of the talk with the guest's agent; `guest/agent` tells the words.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;

/// What a command may write, in bytes. More than this is a fault of the command.
const MOST_OUTPUT: usize = 64 << 20;
/// Longer than the agent's answers are.
const MOST_LINE: u64 = 256;
/// What the guest has left to answer after a command's time is over: it kills after 5 s, and may be slow.
const GRACE: Duration = Duration::from_secs(30);

/// How a command in the guest ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit status; 124 where it ran out of time.
    pub status: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
    /// How long it took, seen from the host.
    pub took: Duration,
}

impl Finished {
    /// What it wrote, where it succeeded.
    ///
    /// # Errors
    /// Where it did not, with all that it wrote.
    pub fn succeeded(&self) -> Result<&str> {
        let said = || format!("{}\n{}", self.stdout.trim(), self.stderr.trim());
        ensure!(self.status != 124, "out of time after {:?}: {}", self.took, said().trim());
        ensure!(self.status == 0, "status {}: {}", self.status, said().trim());
        Ok(&self.stdout)
    }

    /// Its output as JSON, where it succeeded.
    ///
    /// # Errors
    /// Where it did not, or wrote something else.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(self.succeeded()?).with_context(|| format!("not JSON: {}", self.stdout))
    }
}

/// A connection to the agent.
#[derive(Debug)]
pub(crate) struct Agent {
    stream: BufReader<UnixStream>,
}

impl Agent {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Waits for the agent's first word: how many seconds the guest's kernel has run.
    pub(crate) fn ready(&mut self, until: Instant) -> Result<f64> {
        let line = self.line(until)?;
        let uptime = line.strip_prefix("ready ").with_context(|| format!("the agent said {line:?}"))?;
        uptime.parse().with_context(|| format!("the agent said {line:?}"))
    }

    /// Has the guest run a script of bash and waits for its end.
    pub(crate) fn run(&mut self, script: &str, limit: Duration) -> Result<Finished> {
        let started = Instant::now();
        let until = started + limit + GRACE;
        let script = base64::engine::general_purpose::STANDARD.encode(script);
        let request = format!("run {} {script}\n", limit.as_secs().max(1));
        self.stream.get_ref().set_write_timeout(Some(GRACE))?;
        self.stream.get_mut().write_all(request.as_bytes()).context("the guest takes no command")?;
        let line = self.line(until)?;
        let mut words =
            line.strip_prefix("done ").with_context(|| format!("the agent said {line:?}"))?.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<i32>().ok());
        let (Some(status), Some(out), Some(err)) = (number(), number(), number()) else {
            bail!("the agent said {line:?}");
        };
        let stdout = self.bytes(usize::try_from(out)?, until)?;
        let stderr = self.bytes(usize::try_from(err)?, until)?;
        Ok(Finished { status, stdout, stderr, took: started.elapsed() })
    }

    /// Has the guest shut its devices down and power off.
    pub(crate) fn off(&mut self) -> Result<()> {
        Ok(self.stream.get_mut().write_all(b"off\n")?)
    }

    fn line(&mut self, until: Instant) -> Result<String> {
        let mut line = Vec::new();
        loop {
            self.wait(until)?;
            let most = MOST_LINE.saturating_sub(u64::try_from(line.len())?);
            match (&mut self.stream).take(most).read_until(b'\n', &mut line) {
                Ok(0) => bail!("the guest is gone"),
                Ok(_) if line.ends_with(b"\n") => break,
                Ok(_) if u64::try_from(line.len())? >= MOST_LINE => bail!("the agent does not end its line"),
                Ok(_) => {}
                Err(error) if waits(&error) => {}
                Err(error) => return Err(error).context("cannot hear the guest"),
            }
        }
        line.pop();
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn bytes(&mut self, length: usize, until: Instant) -> Result<String> {
        ensure!(length <= MOST_OUTPUT, "the command wrote {length} bytes, more than {MOST_OUTPUT}");
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            self.wait(until)?;
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => bail!("the guest is gone"),
                Ok(count) => filled += count,
                Err(error) if waits(&error) => {}
                Err(error) => return Err(error).context("cannot hear the guest"),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Lets the next read wait no longer than until then.
    fn wait(&self, until: Instant) -> Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "the guest did not answer in time");
        Ok(self.stream.get_ref().set_read_timeout(Some(left))?)
    }
}

fn waits(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::Agent;

    #[test]
    fn agent_answering_in_pieces_gives_status_and_both_streams() -> anyhow::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        let guest = thread::spawn(move || -> std::io::Result<String> {
            let mut request = String::new();
            BufReader::new(theirs.try_clone()?).read_line(&mut request)?;
            for piece in ["do", "ne 3 5 2", "\nhel", "lo!", "?"] {
                (&theirs).write_all(piece.as_bytes())?;
                thread::sleep(Duration::from_millis(10));
            }
            Ok(request)
        });
        let finished = Agent::new(ours).run("true", Duration::from_secs(7))?;
        assert_eq!(guest.join().expect("no panic")?, "run 7 dHJ1ZQ==\n");
        assert_eq!((finished.status, &*finished.stdout, &*finished.stderr), (3, "hello", "!?"));
        Ok(())
    }

    #[test]
    fn agent_silent_or_endless_or_gone_is_an_error_in_time() -> anyhow::Result<()> {
        let soon = || Instant::now() + Duration::from_millis(100);
        let (ours, _theirs) = UnixStream::pair()?;
        let error = Agent::new(ours).ready(soon()).expect_err("nothing was said").to_string();
        assert!(error.contains("in time"), "{error}");

        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(&[b'x'; 1000])?;
        let error = Agent::new(ours).ready(soon()).expect_err("no line ends").to_string();
        assert!(error.contains("does not end"), "{error}");

        let (ours, theirs) = UnixStream::pair()?;
        drop(theirs);
        let error = Agent::new(ours).ready(soon()).expect_err("it is gone").to_string();
        assert!(error.contains("gone"), "{error}");
        Ok(())
    }
}
