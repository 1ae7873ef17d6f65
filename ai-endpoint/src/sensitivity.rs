//! How sensitive a text is. Only what is plainly harmless is called so; whatever isn't understood is sensitive.

/// The class of a text, from harmless to not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sensitivity {
    /// Could hang on the clinic's door: opening hours, how to measure blood pressure.
    Public,
    /// About a person's health, without anything that says who it is or that touches a protected subject.
    Contextual,
    /// Identifying, specially protected, or not understood.
    Sensitive,
}

impl Sensitivity {
    /// The word shown to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Contextual => "contextual",
            Self::Sensitive => "sensitive",
        }
    }
}

/// Classifies one text. Words that are on no list make it sensitive: they may be names.
pub fn classify(text: &str) -> Sensitivity {
    let plain = text.to_lowercase().replace(['\'', '\u{2019}'], "");
    if plain.contains('@')
        || plain.contains("://")
        || plain.contains("www.")
        || has_identifying_number(text)
    {
        return Sensitivity::Sensitive;
    }
    let mut class = Sensitivity::Public;
    for word in plain
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        class = class.max(classify_word(word));
        if class == Sensitivity::Sensitive {
            break;
        }
    }
    class
}

/// The most sensitive of several texts; nothing at all is public.
pub fn classify_all<'a>(texts: impl IntoIterator<Item = &'a str>) -> Sensitivity {
    texts
        .into_iter()
        .map(classify)
        .max()
        .unwrap_or(Sensitivity::Public)
}

fn classify_word(word: &str) -> Sensitivity {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        // Short numbers are doses, ages and times; long ones were caught before.
        return Sensitivity::Contextual;
    }
    let in_list = |list: &str| list.split_ascii_whitespace().any(|known| same(word, known));
    if in_list(PROTECTED) {
        Sensitivity::Sensitive
    } else if in_list(PERSONAL) {
        Sensitivity::Contextual
    } else if in_list(PUBLIC) {
        Sensitivity::Public
    } else if in_list(HEALTH) {
        Sensitivity::Contextual
    } else {
        Sensitivity::Sensitive
    }
}

/// A word of a list, or one of its plain endings.
fn same(word: &str, known: &str) -> bool {
    word.strip_prefix(known).is_some_and(|ending| {
        matches!(ending, "" | "s" | "es" | "ed" | "d" | "ing")
            && (known.len() > 2 || ending.is_empty())
    })
}

/// Dates, telephone, record and insurance numbers: five digits or more in a row, separators between them not counted.
fn has_identifying_number(text: &str) -> bool {
    let mut digits = 0;
    let mut groups = 0;
    let mut previous = ' ';
    for c in text.chars() {
        if c.is_numeric() {
            if !previous.is_numeric() {
                groups += 1;
            }
            digits += 1;
            if digits >= 5 || (groups >= 3 && digits >= 3) {
                return true;
            }
        } else if !matches!(c, ' ' | '-' | '/' | '.' | '(' | ')' | '+')
            || (c == ' ' && previous == ' ')
        {
            digits = 0;
            groups = 0;
        }
        previous = c;
    }
    false
}

/// Subjects that the law or plain decency protects more than others.
const PROTECTED: &str = "hiv aids sti std syphilis chlamydia gonorrhoea gonorrhea herpes abortion miscarriage pregnant pregnancy \
    suicide suicidal depression depressed bipolar psychosis schizophrenia psychiatric psychiatrist psychiatry therapist \
    rape raped abuse abused abusive violence addiction addicted addict alcoholic alcoholism cocaine heroin meth cannabis drunk \
    methadone genetic gene gender transgender sexual sex sexuality erection infertility ivf prison asylum religion cancer tumour \
    tumor leukaemia leukemia chemotherapy terminal dying died death incest overdose anorexia bulimia eating disorder";

/// Words that make a question somebody's own.
const PERSONAL: &str = "i im ive id ill me my mine myself he him his she her hers they them their we us our son daughter child \
    children kid baby toddler infant mother father mum mom dad wife husband partner grandmother grandfather brother sister parent \
    friend yesterday today tonight tomorrow since ago week month year old male female man woman boy girl";

/// Words of questions that anybody may ask.
const PUBLIC: &str = "a about address after all also am an and any anything appointment are arrive as ask at available be been \
    before begin best better between book booking both bring bus but buy by call can cancel cant car card change clean cleaning \
    clinic clock close closed come contact cost could day deliver department desk did different directions do doctor document does \
    doesnt dont during each early email emergency enter entrance every explain fax few find first flu for friday from front \
    general get give go good guide had has have hello help here hi holiday hospital hour house how if in information insurance \
    interpreter into invoice is it its just keep know laboratory language lab late leaflet letter lift like local long lot lunch \
    make many may mean measure meet message monday more morning most much must name near need new next no normal not now number \
    nurse of off often ok okay on one online only open opening or order other out over park parking pay payment people person \
    pharmacy phone place please policy possible prepare price privacy procedure public question queue ramp reach read ready \
    receptionist reception register registration repeat reschedule right room safe same saturday say schedule see send service \
    should show sign so some someone something soon sort speak staff start stay step still stop sunday take team telephone tell \
    test than thank thanks that the then there these thing this those through thursday time to toilet too transport travel try \
    tuesday two type until up use used useful using usual vaccination vaccine visit visitor wait walk want was water way \
    wednesday weekend weekday welcome well were what whats wheelchair when where which while who why will with without work \
    would write yes you your assistant computer program answer encrypted data";

/// Ordinary words of health.
const HEALTH: &str = "able ache aching activity allergy allergic anaesthetic ankle antibiotic arm armpit asthma attack back bad \
    bandage bath bathe bed bit bleed bleeding blister blood bloated blocked body bone bothering bowel breakfast breath breathe \
    breathing bruise bruising burn burning calf chest clot coffee cold constipation constipated cook cough coughing cream crutch \
    crutches cuff cut deep dehydrated dehydration diabetes diabetic diarrhea diarrhoea diet dinner dizzy dizziness dose dressing \
    drink drinking drip drive driving drop dry ear earache eat eating elbow empty evening exercise eye face fall fast fasting fat \
    feel feeling feet fell felt fever fine finger fish flare fluid foot food forgot forgotten fruit gave glucose got grow hair hand \
    hard having head headache heal healing heart heavy heel help high hip hot hungry hurt hurting hypertension ice immune inhaler \
    inject injection inject injured injury inside insomnia insulin itch itching itchy jab jaw joint juice kidney knee knees label \
    last leg less level lift light lip liver loose lost low lunch lung lying machine meal meat medication medicine meds mild milk \
    milligram missed mg ml monitor mouth move moving muscle nail nausea nauseous neck night nose numb operation ointment operated \
    pain painful painkiller painkillers palm paracetamol ibuprofen peanut physio physiotherapy pill plaster podiatrist prescribed \
    prescription pressure preventer probably problem puffer pulse puff pus put rash reaction reading really recover recovery red \
    redness reliever remove removed result rest restart rinse risk rub run running salt scab scar scratch severe shake shallow \
    shoe shoulder shot shower sick side sip sit sitting skin sleep sleeping sleepy slow small smell smoke smoking sneeze soap \
    sore spacer spit sport spray stair stairs stand stiff sting stitch stitches stomach strong sugar surgery swallow swell swelling \
    swelled swollen swim swimming symptom tablet tea temperature thermometer thigh thirsty throat tight tired tiredness toe toenail \
    tongue tooth treat treatment tummy twice unwell upset urine vegetable very vitamin vomit vomiting warm wash waist weak weakness \
    weight went wet wheeze wheezing worse worried worry wound wrist yellow x ray scan degrees celsius";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        for text in [
            "When are you open on Saturday?",
            "Where can I park?",
            "How do you measure blood pressure",
        ] {
            assert!(classify(text) <= Sensitivity::Contextual, "{text}");
        }
        assert_eq!(
            classify("When is the clinic open on Saturday?"),
            Sensitivity::Public
        );
        assert_eq!(
            classify("How do people book an appointment?"),
            Sensitivity::Public
        );
        for text in [
            "My knee is swollen after surgery",
            "I forgot my tablet, 5 mg",
            "my son has a fever of 38.5",
        ] {
            assert_eq!(classify(text), Sensitivity::Contextual, "{text}");
        }
        for text in [
            "My name is Jane Doe",
            "Call me at 0151 2345678",
            "born 12/03/1970",
            "I think I have HIV",
            "I feel depressed",
            "jane@example.org",
            "record number 4711-0815",
            "Frobnicate the whatsit",
            "meine Mutter hat Fieber",
            "日本語",
            "is Schmidt still in room 4",
            "insurance card AB 12 34 56",
            "see https://example.org",
        ] {
            assert_eq!(classify(text), Sensitivity::Sensitive, "{text}");
        }
    }

    #[test]
    fn the_worst_of_several_counts_and_nothing_is_public() {
        assert_eq!(classify_all(["open today", "HIV"]), Sensitivity::Sensitive);
        assert_eq!(classify_all([]), Sensitivity::Public);
        assert_eq!(classify(""), Sensitivity::Public);
    }
}
