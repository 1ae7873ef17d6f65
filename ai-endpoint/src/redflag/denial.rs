//! What takes the alarm out of a word: a plain denial, a mere question about the subject, the past.

use std::ops::Range;

use super::{find, is_any};

const NEGATORS: &str = "no|not|never|without|denies|denied|deny|dont|doesnt|didnt|isnt|arent|wasnt|werent|hasnt|\
         havent|hadnt|nor|neither|none|zero|excluded|aint|negative|absence|free|cannot|wouldnt|\
         nobody|unlikely";

/// Words that may stand between a negation and what it denies.
const FILLERS: &str = "have|having|has|had|any|a|an|the|got|get|getting|feel|feeling|experienc*|suffer*|from|\
         been|really|much|of|sign|signs|symptom|symptoms|more|longer|to|thinking|thoughts|\
         thought|about|planning|or|nor|and|for|is|are|at|all|in|do|does|did|severe|serious|such|\
         actual|new|active|as|in the";

/// Words that stand in lists of what is not there: "no fever, cough or chest pain".
const LISTED: &str = "fever|cough*|pain*|nausea|vomit*|dizz*|headache*|breath*|shortnessofbreath|chest|rash|\
         swelling|bleeding|palpitation*|sweat*|numb*|weak*|chills|diarrhoea|diarrhea|trouble|\
         difficult*|seizure*|faint*|confus*|tight*|pressure|stroke|heart|attack*|wheez*|stomach|\
         blood|loss";

/// Whether a match is plainly denied: by a negation right before it, or by one inside it.
pub(super) fn is_denied(words: &[String], places: &[Range<usize>]) -> bool {
    let start = places.iter().map(|place| place.start).min().unwrap_or(0);
    let end = places.iter().map(|place| place.end).max().unwrap_or(0);
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    // Backwards from the match over words that a denial may contain.
    let mut at = start;
    while let Some(before) = at.checked_sub(1) {
        at = before;
        let this = word(at);
        if is_any(this, NEGATORS) && this != "cannot" {
            // "No, my chest hurts" answers something else.
            return word(at + 1) != ",";
        }
        let filler = is_any(this, FILLERS);
        let listed = is_any(this, LISTED);
        let comma = this == "," && at > 0 && is_any(word(at - 1), LISTED);
        if !(filler || listed || comma) {
            break;
        }
    }
    // "My chest does not hurt": between the parts of the match, and only fillers up to the next part.
    (start..end).any(|at| {
        let inside = places.iter().any(|place| place.contains(&at));
        if inside || !is_any(word(at), NEGATORS) || word(at + 1) == "," {
            return false;
        }
        let next = places
            .iter()
            .map(|place| place.start)
            .filter(|next| *next > at)
            .min()
            .unwrap_or(end);
        (at + 1..next).all(|between| is_any(word(between), FILLERS))
    })
}

const ABOUT: &str = "what are the signs|what are the symptoms|what are signs|what are symptoms|what causes|\
         what is|what are|whats|how can i prevent|how do i prevent|how to prevent|information on|\
         information about|leaflet|article|read about|learn about|difference between|explain|\
         tell me about|risk of|risk factors|prevent*|how common|course on|training|documentary|\
         symptom of|symptoms of|side effect of|side effect|sign of|caused by|involve|courses on|\
         course about";
const PRESENT: &str = "i have|i am|im|ive|my|me|now|he is|she is|hes|shes|he has|she has|having|today|tonight|\
         this morning|since|still|again|im having|just|currently|we are|keeps|is having";
const PAST: &str = "years ago|year ago|months ago|month ago|weeks ago|last year|as a child|when i was|\
         when he was|when she was|history of|family history|used to|previously|in the past|died|\
         passed away|in childhood|decades ago|last summer|last winter|a while back|long ago|\
         follow up after|after his|rehab*|recover* from|check up after";
const STILL: &str = "now|today|tonight|again|still|since then|this morning|right now|back|currently|keeps|\
         just";

/// Whether a clause only asks about a subject, or tells of the past.
pub(super) fn is_excused(words: &[String]) -> bool {
    let any = |list: &str| {
        list.split('|')
            .any(|phrase| !find(words, phrase).is_empty())
    };
    let year = words.iter().any(|word| {
        word.len() == 4
            && (word.starts_with("19") || word.starts_with("20"))
            && word.bytes().all(|b| b.is_ascii_digit())
    });
    (any(ABOUT) && !any(PRESENT)) || ((any(PAST) || year) && !any(STILL))
}
