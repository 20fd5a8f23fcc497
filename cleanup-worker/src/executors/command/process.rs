//! The program, running: one request at a time, under a time limit, and killed with all that it started where it does not keep to it.
//!
//! A program that was killed for being late cannot act any more. What it had sent before may still arrive, as with any request whose
//! answer did not come.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::declaration::Declaration;
use super::error::{CommandError, Trouble};
use super::tie::tied;
use super::wire::{self, Answer, Change, HelloAnswer, LINE_MAX, PROTOCOL, Question, Said};

/// Set for the program where nothing may be changed.
const READ_ONLY: &str = "LEDGER_READ_ONLY";
/// What is ours alone: no program gets the keys of the ledger or the way into its database.
const WITHHELD: [&str; 6] = [
    "DATABASE_URL",
    "LEDGER_CHECKPOINT_KEY",
    "LEDGER_KEK",
    "LEDGER_KEK_NEXT",
    "LEDGER_KEK_OLD",
    "LEDGER_KEK_COMMAND",
];
/// Longest output of a program that counts.
const COUNT_MAX: u64 = 1024;
/// How long a program that is over may take to leave, and its last words to arrive.
const LEAVE: Duration = Duration::from_secs(1);
/// Longest line of standard error that is logged whole.
const ERROR_LINE_MAX: usize = 4096;

/// How to start the program.
#[derive(Debug, Clone)]
pub struct Program {
    words: Vec<String>,
    /// Our own binary, which ties the program to this process.
    own: Option<PathBuf>,
    read_only: bool,
    /// Longest wait for a line of an answer that changes nothing.
    pub(super) limit: Duration,
}

impl Program {
    /// From a command line: words separated by blanks, grouped by quotes as in a shell, and nothing else of a shell.
    ///
    /// # Errors
    /// No word, or a quote that is not closed. `which`: the option that it came with.
    pub fn parse(which: &'static str, line: &str, limit: Duration) -> Result<Self, CommandError> {
        let wrong = |what| CommandError::Words { which, what };
        let words = shlex::split(line).ok_or_else(|| wrong("a quote is not closed"))?;
        if words.is_empty() {
            return Err(wrong("it is empty"));
        }
        Ok(Self {
            words,
            own: None,
            read_only: true,
            limit,
        })
    }

    /// Has it end with this process, also where that is killed. `own`: a binary that begins with [`super::main_if_asked`].
    #[must_use]
    pub fn tied_by(self, own: PathBuf) -> Self {
        let own = Some(own);
        Self { own, ..self }
    }

    fn command(&self) -> Command {
        let words = match &self.own {
            Some(own) => tied(own, &self.words),
            None => self.words.iter().map(OsString::from).collect(),
        };
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).kill_on_drop(true);
        for name in WITHHELD {
            command.env_remove(name);
        }
        // A group of its own: the terminal's signals do not reach it, and it is killed with all that it started.
        command.process_group(0).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.read_only {
            command.env(READ_ONLY, "1");
        } else {
            command.env_remove(READ_ONLY);
        }
        command
    }

    /// For errors: the name without its folder.
    fn name(&self) -> String {
        let name = Path::new(&self.words[0]).file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Runs it to its end without input and reads one whole number from its output.
    ///
    /// # Errors
    /// It could not be started, failed, took longer than `limit`, or printed something else.
    pub(super) async fn count(&self) -> Result<u64, CommandError> {
        let wrong = |what: String| CommandError::Count(what);
        let mut command = self.command();
        command.stdin(Stdio::null());
        let mut child = command
            .spawn()
            .map_err(|error| wrong(format!("start {}: {error}", self.name())))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Err(wrong("a standard stream is missing".to_owned()));
        };
        let mut group = Group::of(&child);
        let mut text = Vec::new();
        let mut errors = Lines::new(stderr);
        let answer = async {
            // One more than is taken shows that it goes on.
            stdout.take(COUNT_MAX + 1).read_to_end(&mut text).await?;
            if text.len() as u64 > COUNT_MAX {
                group.kill();
            }
            child.wait().await
        };
        let ended = timeout(self.limit, async {
            tokio::select! {
                ended = answer => ended,
                never = errors.log() => match never {},
            }
        });
        let status = ended
            .await
            .map_err(|_| wrong(format!("no answer in {} ms", self.limit.as_millis())))?
            .map_err(|error| wrong(format!("read its output: {error}")))?;
        group.is_over();
        if text.len() as u64 <= COUNT_MAX && !status.success() {
            return Err(wrong(format!("it ended with {status}")));
        }
        let text = std::str::from_utf8(&text).unwrap_or_default();
        let number = text.trim().parse();
        number.map_err(|_| wrong("it did not print one whole number".to_owned()))
    }

    /// Starts it and hears what it is.
    pub(super) async fn start(&self) -> Result<(Session, Declaration), Trouble> {
        let failed = |source| Trouble::Start {
            program: self.name(),
            source,
        };
        let mut child = self.command().spawn().map_err(failed)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            let error = std::io::Error::other("a standard stream is missing");
            return Err(failed(error));
        };
        let mut session = Session {
            group: Group::of(&child),
            child,
            stdin,
            answers: Lines::new(stdout),
            errors: Lines::new(stderr),
            asked: 0,
        };
        let hello = Question::Hello {
            protocol: PROTOCOL,
            read_only: self.read_only,
        };
        let until = Instant::now() + self.limit;
        let said = session
            .ask::<HelloAnswer>(&hello, until, self.limit)
            .await?;
        let hello = said.map_err(|refusal| {
            Trouble::Refused(refusal.into_error(1, crate::clients::Effect::None).reason)
        })?;
        let declaration = Declaration::read(hello.hello)?;
        Ok((session, declaration))
    }
}

/// A program that may be asked to change something.
#[derive(Debug, Clone)]
pub(super) struct WritingProgram(Program);

impl WritingProgram {
    /// A live run makes one; a dry run never does.
    pub(super) fn new(program: Program) -> Self {
        Self(Program {
            read_only: false,
            ..program
        })
    }

    /// One that is told to change nothing, as in a dry run; who opens a place for looking alone asks it for nothing else.
    pub(super) fn told_to_look(program: Program) -> Self {
        Self(Program {
            read_only: true,
            ..program
        })
    }

    /// Longest wait for a line of an answer that changes nothing.
    pub(super) fn limit(&self) -> Duration {
        self.0.limit
    }

    /// Starts it; it has to be what it was.
    pub(super) async fn start(&self, known: &Declaration) -> Result<WritingSession, Trouble> {
        let (session, declaration) = self.0.start().await?;
        if declaration == *known {
            Ok(WritingSession(session))
        } else {
            Err(Trouble::Changed)
        }
    }
}

/// A running program that can only be asked what changes nothing.
pub(super) struct Session {
    child: Child,
    group: Group,
    stdin: ChildStdin,
    answers: Lines<ChildStdout>,
    errors: Lines<ChildStderr>,
    asked: u64,
}

impl Session {
    /// Asks, and gives the first line of the answer. After an error the session is of no use any more.
    pub(super) async fn ask<T: Answer>(
        &mut self,
        question: &Question<'_>,
        until: Instant,
        limit: Duration,
    ) -> Result<Said<T>, Trouble> {
        self.exchange(question, until, limit).await
    }

    /// The next line of an answer of several.
    pub(super) async fn next<T: Answer>(&mut self, limit: Duration) -> Result<Said<T>, Trouble> {
        self.converse(&[], Instant::now() + limit, limit).await
    }

    async fn exchange<T: Answer>(
        &mut self,
        request: &impl Serialize,
        until: Instant,
        limit: Duration,
    ) -> Result<Said<T>, Trouble> {
        self.asked += 1;
        let line = wire::line(self.asked, request).map_err(|source| Trouble::Request {
            verb: T::VERB,
            source,
        })?;
        self.converse(&line, until, limit).await
    }

    async fn converse<T: Answer>(
        &mut self,
        line: &[u8],
        until: Instant,
        limit: Duration,
    ) -> Result<Said<T>, Trouble> {
        let verb = T::VERB;
        let Self {
            stdin,
            answers,
            errors,
            ..
        } = self;
        // Beside each other: a program may write before it has read all. That it does not read shows by its answer.
        let talk = async {
            let say = async {
                if !line.is_empty() && stdin.write_all(line).await.is_ok() {
                    drop(stdin.flush().await);
                }
            };
            tokio::join!(say, answers.next()).1
        };
        let came = tokio::select! {
            came = timeout_at(until, talk) => came,
            never = errors.log() => match never {},
        };
        let Ok(came) = came else {
            return Err(Trouble::Late { verb, limit });
        };
        match came {
            Ok(Some(line)) => wire::read(&line, self.asked),
            Ok(None) => Err(self.ended(verb).await),
            Err(LineError::Long) => Err(Trouble::Long { verb }),
            Err(LineError::Read(source)) => Err(Trouble::Pipe { verb, source }),
        }
    }

    /// How it ended. It closed its output: whatever else it does, nobody hears it any more.
    async fn ended(&mut self, verb: &'static str) -> Trouble {
        self.group.kill();
        let status = match timeout(LEAVE, self.child.wait()).await {
            Ok(Ok(status)) if status.code() == Some(127) => format!("{status}: no such program"),
            Ok(Ok(status)) => status.to_string(),
            _ => "it is not known how".to_owned(),
        };
        self.group.is_over();
        let last_words = async { match self.errors.log().await {} };
        let _: Result<(), _> = timeout(LEAVE / 10, last_words).await;
        Trouble::Ended { verb, status }
    }
}

/// A program with all that it started: none of it outlives this.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        Self(leader.and_then(Pid::from_raw))
    }

    fn kill(&self) {
        if let Some(group) = self.0 {
            // It may be gone already, which is what is wanted.
            let _: Result<(), _> = kill_process_group(group, Signal::KILL);
        }
    }

    /// It was reaped: its number may be somebody else's by now.
    fn is_over(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running program that can also be asked to change something.
pub(super) struct WritingSession(Session);

impl WritingSession {
    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.0
    }

    /// Sends a change. After an error the session is of no use any more.
    pub(super) async fn change<T: Answer>(
        &mut self,
        change: &Change<'_>,
        until: Instant,
        limit: Duration,
    ) -> Result<Said<T>, Trouble> {
        self.0.exchange(change, until, limit).await
    }
}

enum LineError {
    Long,
    Read(std::io::Error),
}

/// Lines of bounded length. Dropping a call loses nothing: what was read is kept for the next one.
struct Lines<R> {
    reader: BufReader<R>,
    partial: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(64 * 1024, reader),
            partial: Vec::new(),
        }
    }

    /// The next whole line; none at the end, also where a line was begun.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        loop {
            let chunk = self.reader.fill_buf().await.map_err(LineError::Read)?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            if self.partial.len() + taken > LINE_MAX + 1 {
                return Err(LineError::Long);
            }
            self.partial.extend_from_slice(&chunk[..taken]);
            self.reader.consume(taken);
            if end.is_some() {
                self.partial.pop();
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
        }
    }

    /// Logs what comes for as long as it is awaited, for whoever debugs the program.
    async fn log(&mut self) -> Infallible {
        loop {
            match self.next().await {
                Ok(Some(line)) => {
                    let line = &line[..line.len().min(ERROR_LINE_MAX)];
                    tracing::debug!(line = %String::from_utf8_lossy(line), "the program says");
                }
                Err(LineError::Long) => self.partial.clear(),
                Ok(None) | Err(LineError::Read(_)) => std::future::pending().await,
            }
        }
    }
}
