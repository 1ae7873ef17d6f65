//! May the assistant answer this message, and why: pure decisions over what the endpoint knows of it.

/// Who wrote a message, as far as the assistant cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A patient.
    Patient,
    /// A clinician or anyone else of the clinic.
    Staff,
    /// An automated member: the assistant itself or another one.
    Bot,
}

impl Role {
    /// The word that the model is shown instead of a name.
    pub fn label(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::Staff => "clinic staff",
            Self::Bot => "assistant",
        }
    }
}

/// A message as the policy sees it.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about a message"
)]
pub struct Incoming<'a> {
    /// Its text.
    pub text: &'a str,
    /// Who wrote it.
    pub sender: Role,
    /// Whether this endpoint's own account wrote it.
    pub mine: bool,
    /// Whether the conversation has only the sender and the assistant.
    pub direct: bool,
    /// Whether it names the assistant's account, apart from what its text says.
    pub names_me: bool,
    /// Whether it is a reply to a message of the assistant.
    pub replies_to_me: bool,
    /// Whether a member has switched the assistant off in this conversation.
    pub switched_off: bool,
}

/// What to do with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ignore(Why),
    /// Not addressed: only look for an emergency.
    Watch,
    /// A command.
    Command(Command),
    /// A question; the mention of the assistant is taken out of it.
    Answer(String),
}

/// Why a message is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The assistant wrote it itself.
    Mine,
    /// Another automated member wrote it: two of them would talk for ever.
    Bot,
    /// The assistant is switched off here.
    SwitchedOff,
    /// It was said to others.
    NotAddressed,
    /// There is nothing in it.
    Empty,
}

/// What people can tell the assistant to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// What can you do?
    Help,
    /// Are you well, and with which model?
    Status,
    /// Stop the answer that is being written.
    Stop,
    /// Which documents do you answer from?
    Sources,
    /// A greeting or thanks: a short word back, no model needed.
    Greeting,
}

/// Decides. `handles` are the names under which the assistant can be mentioned, without `@`.
pub fn decide(message: Incoming<'_>, handles: &[String]) -> Verdict {
    if message.mine {
        return Verdict::Ignore(Why::Mine);
    }
    if message.sender == Role::Bot {
        return Verdict::Ignore(Why::Bot);
    }
    if message.switched_off {
        return Verdict::Ignore(Why::SwitchedOff);
    }
    let (mentioned, text) = without_mention(message.text, handles);
    let mentioned = mentioned || message.names_me;
    if !(message.direct || message.replies_to_me || mentioned) {
        // Clinicians speak about emergencies all day; a patient's words may be one.
        return if message.sender == Role::Patient && !message.text.trim().is_empty() {
            Verdict::Watch
        } else {
            Verdict::Ignore(Why::NotAddressed)
        };
    }
    if text.is_empty() {
        return if mentioned {
            Verdict::Command(Command::Help)
        } else {
            Verdict::Ignore(Why::Empty)
        };
    }
    match command(&text) {
        Some(command) => Verdict::Command(command),
        None => Verdict::Answer(text),
    }
}

/// A whole message that is a command, with or without a slash and a full stop.
pub fn command(text: &str) -> Option<Command> {
    let word = text
        .trim()
        .trim_start_matches('/')
        .trim_end_matches(['.', '!', '?', ' '])
        .to_lowercase();
    match word.as_str() {
        "help" | "what can you do" => Some(Command::Help),
        "status" => Some(Command::Status),
        "stop" | "cancel" => Some(Command::Stop),
        "sources" | "documents" => Some(Command::Sources),
        "hi"
        | "hello"
        | "hey"
        | "hello there"
        | "hi there"
        | "good morning"
        | "good afternoon"
        | "good evening"
        | "thanks"
        | "thank you"
        | "thank you very much"
        | "many thanks"
        | "ok thanks" => Some(Command::Greeting),
        _ => None,
    }
}

/// Takes every `@handle` out of a text; says whether there was one.
fn without_mention(text: &str, handles: &[String]) -> (bool, String) {
    let mut rest = text;
    let mut out = String::with_capacity(text.len());
    let mut mentioned = false;
    while let Some(at) = rest.find('@') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let name: String = from
            .chars()
            .skip(1)
            .take_while(|c| c.is_alphanumeric() || "_-".contains(*c))
            .collect();
        let glued = out.chars().next_back().is_some_and(char::is_alphanumeric);
        let behind = from.get(1 + name.len()..).unwrap_or_default();
        // `x@ai.example` is an address, not a mention.
        let address = behind
            .strip_prefix('.')
            .is_some_and(|b| b.starts_with(char::is_alphanumeric));
        if !glued
            && !address
            && handles
                .iter()
                .any(|handle| handle.eq_ignore_ascii_case(&name))
        {
            mentioned = true;
            rest = behind.trim_start_matches([',', ':']);
        } else {
            out.push('@');
            rest = from.get(1..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    let text = if mentioned {
        out.split_whitespace().collect::<Vec<_>>().join(" ")
    } else {
        out
    };
    (mentioned, text.trim().to_owned())
}

/// The answer to [`Command::Help`].
pub fn help_text(name: &str) -> String {
    format!(
        "I am {name}, the clinic's assistant: a computer program, not a person. I answer general questions from the \
         clinic's documents.\n\nIn a conversation with just the two of us, simply write. Elsewhere, write @{name} in your \
         message or reply to one of mine.\n\nCommands: help, status, sources (which documents I know), stop (end the \
         answer I am writing).\n\nI make no diagnosis. In an emergency, call the emergency number."
    )
}

/// The answer to [`Command::Greeting`].
pub const GREETING: &str = "Hello! Ask me a general question and I look for an answer in the clinic's documents. Write \
    \"help\" to see what I can do.";

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(text: &str) -> Incoming<'_> {
        Incoming {
            text,
            sender: Role::Patient,
            mine: false,
            direct: false,
            names_me: false,
            replies_to_me: false,
            switched_off: false,
        }
    }

    fn verdict(message: Incoming<'_>) -> Verdict {
        decide(message, &["ai".to_owned(), "wardline-bot".to_owned()])
    }

    #[test]
    fn only_the_addressed_assistant_answers() {
        let answer = |text: &str| Verdict::Answer(text.to_owned());
        assert_eq!(
            verdict(Incoming {
                direct: true,
                ..incoming(" When open? ")
            }),
            answer("When open?")
        );
        assert_eq!(
            verdict(Incoming {
                replies_to_me: true,
                ..incoming("And Sunday?")
            }),
            answer("And Sunday?")
        );
        assert_eq!(verdict(incoming("@ai when open?")), answer("when open?"));
        assert_eq!(
            verdict(incoming("Hello @AI, when open?")),
            answer("Hello when open?")
        );
        assert_eq!(
            verdict(incoming("(@wardline-bot) when?")),
            answer("() when?")
        );
        assert_eq!(
            verdict(Incoming {
                names_me: true,
                ..incoming("when open?")
            }),
            answer("when open?")
        );
        assert_eq!(verdict(incoming("when open?")), Verdict::Watch);
        assert_eq!(
            verdict(Incoming {
                sender: Role::Staff,
                ..incoming("He had chest pain")
            }),
            Verdict::Ignore(Why::NotAddressed)
        );
    }

    #[test]
    fn what_only_looks_like_a_mention() {
        for text in [
            "mail me at jane@ai.example",
            "x@ai",
            "@aid please",
            "@ ai",
            "@ai.example",
            "ask ai",
            "@a i",
        ] {
            assert_eq!(verdict(incoming(text)), Verdict::Watch, "{text}");
        }
        assert_eq!(
            verdict(incoming("ask @ai.")),
            Verdict::Answer("ask .".to_owned())
        );
    }

    #[test]
    fn never_itself_and_never_another_bot() {
        let me = Incoming {
            mine: true,
            direct: true,
            ..incoming("@ai hello")
        };
        assert_eq!(verdict(me), Verdict::Ignore(Why::Mine));
        let bot = Incoming {
            sender: Role::Bot,
            direct: true,
            ..incoming("@ai help")
        };
        assert_eq!(verdict(bot), Verdict::Ignore(Why::Bot));
        let off = Incoming {
            switched_off: true,
            direct: true,
            ..incoming("@ai when?")
        };
        assert_eq!(verdict(off), Verdict::Ignore(Why::SwitchedOff));
    }

    #[test]
    fn commands() {
        for (text, command) in [
            ("help", Command::Help),
            ("/status", Command::Status),
            ("STOP!", Command::Stop),
            ("@ai sources", Command::Sources),
            ("@ai", Command::Help),
            ("@ai, stop.", Command::Stop),
            ("Hello", Command::Greeting),
        ] {
            assert_eq!(
                verdict(Incoming {
                    direct: true,
                    ..incoming(text)
                }),
                Verdict::Command(command),
                "{text}"
            );
        }
        assert_eq!(verdict(incoming("stop")), Verdict::Watch);
        assert_eq!(
            verdict(Incoming {
                direct: true,
                ..incoming("should I stop my tablets?")
            }),
            Verdict::Answer("should I stop my tablets?".to_owned())
        );
        assert_eq!(
            verdict(Incoming {
                direct: true,
                ..incoming("  \n")
            }),
            Verdict::Ignore(Why::Empty)
        );
    }
}
