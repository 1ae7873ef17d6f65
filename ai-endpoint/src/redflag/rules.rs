//! The words of emergencies.

use super::Category::{
    Allergy, Bleeding, Breathing, Heart, Infant, Other, Poisoning, Pregnancy, SelfHarm, Stroke,
    Unconscious,
};
use super::denial::is_denied;
use super::{Rule, find};

/// Expressions whose words mean something else when they stand alone. Replaced before the text is cut into words.
pub(super) const COMPOUNDS: [(&str, &str); 28] = [
    ("dying to ", "eager to "),
    ("dying of curiosity", "curious"),
    ("blood pressure", "bloodpressure"),
    ("blood test", "bloodtest"),
    ("blood sample", "bloodsample"),
    ("blood sugar", "bloodsugar"),
    ("blood thinner", "bloodthinner"),
    ("blood work", "bloodwork"),
    ("blood count", "bloodcount"),
    ("blood type", "bloodtype"),
    ("blood donat", "blooddonat"),
    ("food poisoning", "foodillness"),
    ("blood group", "bloodgroup"),
    ("blood result", "bloodresult"),
    ("can not", "cannot"),
    ("chest infection", "bronchitis"),
    ("chest x", "xray"),
    ("chest physio", "physio"),
    ("chest cold", "cold"),
    ("stroke of ", "bit of "),
    ("heart attack on a plate", "junk"),
    ("died of laughter", "laughed"),
    ("shortness of breath", "shortnessofbreath"),
    ("short of breath", "shortnessofbreath"),
    ("hard time breathing", "cannot breathe"),
    ("carbon monoxide", "carbonmonoxide"),
    ("stroke unit", "ward"),
    ("breath test", "lab test"),
];

pub(super) const BABY: &str = "baby|infant|newborn|son|daughter|boy|girl|grandson|granddaughter";

const PAIN: &str = "pain*|hurt*|ache*|aching|pressure|tight*|crush*|squeez*|heavy|heaviness|burning|\
         stabbing|elephant|discomfort|cramp*|weight|constrict*|gripping|killing|clutch*|grabbed|\
         grabbing|grabs|holding|sharp|band|vise|squash*|stabs|shooting|throbbing|spasm*";
const CANNOT: &str = "cant|cannot|couldnt|unable|struggl*|trouble|difficult*|hard|harder|barely|hardly|\
         fighting|not able|problems|labored|laboured|fight|aint|wont let me|not getting|\
         isnt getting";
const SUDDEN: &str =
    "sudden|suddenly|all of a sudden|out of nowhere|just now|minutes ago|an hour ago";
const SWALLOWED: &str = "took|taken|swallow*|drank|drunk|ate|eaten|ingested|drinking|taking|had";
const CHILD: &str = "baby|child|son|daughter|toddler|newborn|infant|kid|boy|girl";

const fn clause(category: super::Category, span: usize, groups: &'static [&'static str]) -> Rule {
    Rule {
        category,
        groups,
        span,
        whole_message: false,
        excusable: true,
    }
}

const fn always(category: super::Category, span: usize, groups: &'static [&'static str]) -> Rule {
    Rule {
        category,
        groups,
        span,
        whole_message: false,
        excusable: false,
    }
}

const fn across(category: super::Category, span: usize, groups: &'static [&'static str]) -> Rule {
    Rule {
        category,
        groups,
        span,
        whole_message: true,
        excusable: false,
    }
}

pub(super) const RULES: &[Rule] = &[
    // Heart
    clause(Heart, 9, &["chest|breastbone|sternum|ribcage", PAIN]),
    clause(Heart, 4, &["heart attack|cardiac arrest|heartattack"]),
    clause(
        Heart,
        10,
        &[
            "left arm|jaw|shoulder blade",
            "pain*|ache*|numb*|tingl*|hurt*",
            "chest|sweat*|heart|spread*|radiat*|shoot*|down",
        ],
    ),
    clause(
        Heart,
        8,
        &[
            "heart|palpitation*|pulse",
            "stopped|stopping|faint*|pass out|passing out|passed out|cannot breathe|going to explode|\
         dizzy|150|160|170|180|190|200",
        ],
    ),
    clause(
        Heart,
        9,
        &[
            "heart",
            "pounding|racing|skipping|fluttering|out of rhythm",
            "dizzy|faint*|breath*|chest|sweat*|wont stop|wont calm|lightheaded|weak|collaps*",
        ],
    ),
    clause(
        Heart,
        6,
        &["heart", "hurts|pain|pains|aching|squeez*|stabbing"],
    ),
    // Breathing
    clause(
        Breathing,
        6,
        &[
            CANNOT,
            "breath|breathe|breathing|breaths|breah|breth|brethe|breateh|catch my breath|\
         catch her breath|catch his breath|get air|enough air|get any air|any air|enough oxygen|\
         get my breath|inhale|breathe in|take a breath",
        ],
    ),
    clause(
        Breathing,
        5,
        &[
            "breath*",
            "very fast|so fast|really fast|too fast|ribs|grunting|rapid*|shallow|labored|laboured|\
         gurgl*|stridor|rattl*|heavily|suck*|irregular*|getting worse|stopping",
        ],
    ),
    clause(
        Breathing,
        3,
        &[
            "shortnessofbreath|gasping|suffocat*|choking|air hunger|breathless|fighting for breath|\
         fighting for air|out of breath at rest|out of breath just|out of breath even|\
         out of breath sitting|out of breath lying|asphyxiat*",
        ],
    ),
    clause(
        Breathing,
        6,
        &[
            "lip|lips|face|fingertips|nails|skin|he|she|hes|shes|him|her|baby|son|daughter|child|\
         husband|wife|mouth",
            "blue|bluish|purple|grey|gray|ashen",
        ],
    ),
    always(
        Breathing,
        4,
        &[
            "not breathing|isnt breathing|stopped breathing|no breathing|stops breathing|\
         doesnt breathe|quit breathing|barely breathing|not breathe",
        ],
    ),
    clause(
        Breathing,
        12,
        &[
            "inhaler|puffer|reliever|ventolin|salbutamol|nebuliser|nebulizer",
            "not helping|isnt helping|doesnt help|not working|isnt working|doesnt work|no effect|\
         does not help|does not work|stopped working|not relieving|didnt help|did not help|\
         didnt work|nothing helps|no relief|wont help",
        ],
    ),
    clause(
        Breathing,
        8,
        &[
            "asthma attack|severe asthma|bad asthma|asthma",
            "severe|terrible|bad attack|attack now|cant speak|cannot speak|having an|really bad|\
         attack right",
        ],
    ),
    clause(
        Breathing,
        6,
        &[
            "wheez*",
            "severe*|terribl*|badly|cant speak|cannot talk|cant talk|worse",
        ],
    ),
    clause(
        Breathing,
        8,
        &["carbonmonoxide|smoke inhalation|drowned|drowning"],
    ),
    // Stroke
    clause(
        Stroke,
        3,
        &[
            "having a stroke|had a stroke|has a stroke|be a stroke|having stroke|stroke symptom*|\
         signs of stroke|signs of a stroke|one sided weakness|onesided weakness|sided paralysis|\
         mini stroke|has had a stroke|a stroke right|stroke now|getting a stroke",
        ],
    ),
    clause(
        Stroke,
        8,
        &[
            "face|mouth|smile|eyelid|cheek|facial",
            "droop*|dropp*|sagg*|crooked|lopsided|paralys*|paralyz*|uneven|hanging|hangs|one sided|\
         slack|numb|numbness|hung|asymmetric*|skewed|frozen|twisted",
        ],
    ),
    clause(
        Stroke,
        8,
        &[
            "speech|speak*|talk*|words|voice|sentence*|language",
            "slur*|garbl*|jumbl*|mumbl*|gibberish|nonsense|dont make sense|not making sense|\
         making no sense|cannot find|come out wrong|coming out wrong|mixed up|funny|incoherent*|\
         strange*|weird*|cant find|unclear|not clear",
        ],
    ),
    clause(
        Stroke,
        5,
        &[
            "cant speak|cannot speak|cant talk|cannot talk|lost speech|unable to speak|\
         unable to talk|trouble speaking|trouble talking|difficulty speaking|lost her speech|\
         lost his speech|slurring|slurred|cant find words|cannot find words|find her words|\
         find his words|find the words|find my words|get words out|get the words out|\
         get a word out|talking nonsense|talks nonsense|talking gibberish|doesnt recognise me|\
         doesnt recognize me|does not recognise|does not recognize",
        ],
    ),
    clause(
        Stroke,
        9,
        &[
            "arm|leg|side|hand|body|half",
            "numb*|weak*|paralys*|paralyz*|cant move|cannot move|cant lift|cannot lift|went dead|\
         gone dead|wont move|lost feeling|no feeling|cant feel|cannot feel|no strength|\
         lost strength|limp|dont work|doesnt work|not working|stopped working|wont work|cant use|\
         cannot use|cant raise|cannot raise|drags|dragging|cant hold|cannot hold|dont obey",
            "left|right|one|sudden*|all of a sudden|half",
        ],
    ),
    clause(
        Stroke,
        8,
        &[
            "worst headache|thunderclap|headache i ever|headache i have ever|headache ive ever|\
         headache hit me|exploding head|worst ever headache|exploding headache|\
         headache of my life",
        ],
    ),
    clause(
        Stroke,
        7,
        &[
            SUDDEN,
            "headache|blind|lost vision|lost my vision|vision|cannot see|cant see|lost sight|\
         double vision|confus*|disoriented|cant walk|cannot walk|lost balance|weakness",
        ],
    ),
    clause(
        Stroke,
        6,
        &[
            "lost|loss of|losing|gone|went black|gone black|went dark|blurry suddenly",
            "vision|sight|eyesight",
            "eye|sudden*|eyes|left|right|both|my|his|her",
        ],
    ),
    // Bleeding
    clause(
        Bleeding,
        12,
        &[
            "bleed*|blood|nosebleed|bled",
            "wont stop|cant stop|not stopping|doesnt stop|will not stop|does not stop|isnt stopping|\
         keeps|heavily|heavy|severe*|everywhere|gush*|spurt*|pour*|soaked|soaking|soaks|profuse*|\
         uncontroll*|through the bandage|pumping|nonstop|non stop|a lot|lots of|so much|too much|\
         squirt*|massive|pool of|wouldnt stop|hasnt stopped|has not stopped|did not stop|\
         cannot stop|losing|lost a lot|like crazy|like mad|badly|really bad|all over|\
         through the bandages|runs down|running down|dripping|fountain|deep|for hours|an hour|\
         still coming|keeps coming|litre|pints",
        ],
    ),
    clause(
        Bleeding,
        6,
        &[
            "vomit*|throw* up|threw up|cough*|spit*|puk*|spat",
            "blood|bloody|coffee grounds",
        ],
    ),
    clause(
        Bleeding,
        7,
        &[
            "black|tarry|bloody",
            "stool*|poo|poop|faeces|feces|diarrhoea|diarrhea",
        ],
    ),
    clause(
        Bleeding,
        4,
        &[
            "coffee grounds|haemorrhag*|hemorrhag*|cut an artery|severed|bleeding out|bleed to death|\
         bleeding to death|amputat* finger|cut off my finger|cut off his finger|\
         cut off her finger",
        ],
    ),
    clause(
        Bleeding,
        7,
        &[
            "soak*|filling",
            "pad|pads|towel|towels|sheets|dressing",
            "hour|blood|minutes|through",
        ],
    ),
    clause(
        Bleeding,
        7,
        &[
            "peeing|urine|urinating|rectum|anus|vagina*|bottom",
            "blood|bleeding",
            "clots|lot|heavy|bright|heavily|pure",
        ],
    ),
    // Allergy
    clause(
        Allergy,
        7,
        &[
            "throat|airway|windpipe",
            "clos*|swelling|swollen shut|swelled|swelling up|tighten*|narrow*|swells",
        ],
    ),
    clause(
        Allergy,
        7,
        &[
            "tongue|lips|lip|face|eyes and|mouth",
            "swell*|swollen|swoll*|puffing up|blowing up|ballooned",
        ],
    ),
    clause(
        Allergy,
        9,
        &[
            "cannot swallow|cant swallow|drooling",
            "throat|tongue|itch*|hives|swollen|swell*|drooling",
        ],
    ),
    clause(Allergy, 3, &["anaphyla*|anaphalactic|anaphalaxis"]),
    clause(
        Allergy,
        9,
        &[
            "allergic|allergy",
            "severe|bad reaction|breath*|swell*|swollen|throat|dizzy|collapse*|serious|terrible|\
         faint*",
        ],
    ),
    clause(
        Allergy,
        8,
        &[
            "epipen|epi pen|auto injector|autoinjector|jext",
            "used|need*|give|gave|jab*|have to use|injected",
        ],
    ),
    clause(
        Allergy,
        12,
        &[
            "hives|stung|sting|peanut*|nuts|nut|bee|wasp|shellfish",
            "breath*|swell*|swollen|dizzy|throat|wheez*|faint*|lips|tongue|cannot swallow|\
         cant swallow|itch everywhere|itchy everywhere|swelled",
        ],
    ),
    // Poisoning
    clause(Poisoning, 4, &["overdos*|od ed|oded|over dosed"]),
    clause(
        Poisoning,
        9,
        &[
            SWALLOWED,
            "too many|too much|whole bottle|entire bottle|whole pack*|entire pack*|whole box|\
         whole strip|all my pills|all my tablets|all of my pills|all of my tablets|\
         all my medication|all my meds|all the pills|all the tablets|all his pills|all her pills|\
         all of them at once|handful of|bunch of pills",
            "pill*|tablet*|medic*|meds|insulin|paracetamol|ibuprofen|acetaminophen|tylenol|aspirin|\
         morphine|bottle|pack*|box|strip|painkiller*|opioid*|oxycodone|sleeping|antidepressant*|\
         drug*|at once|dose*|vodka|xanax|heart",
        ],
    ),
    clause(
        Poisoning,
        6,
        &[
            "took|taken|swallow*|take",
            "#",
            "pill*|tablet*|paracetamol*|ibuprofen*|tylenol*|sleeping|capsule*|painkiller*|aspirin*|\
         acetaminophen*",
        ],
    ),
    clause(
        Poisoning,
        9,
        &[
            SWALLOWED,
            "bleach|poison*|detergent|drain cleaner|battery|batteries|antifreeze|magnet*|cleaning|\
         cleaner|weed killer|pesticide|petrol|gasoline|paint thinner|rat|laundry pod*|dishwasher|\
         acid|mushrooms|nail polish remover|white spirit|my pills|grandmas pills|chemical*",
        ],
    ),
    clause(
        Poisoning,
        6,
        &[
            "poisoned|been poisoned|injected",
            "poisoned|too much insulin|too much|wrong insulin|double insulin",
        ],
    ),
    clause(Poisoning, 4, &["poisoned|been poisoned|took poison"]),
    clause(
        Poisoning,
        8,
        &[
            CHILD,
            "swallowed|got into|ate|drank",
            "pill*|tablet*|my medic*|the medicine cabinet|grandmas|grandpas|battery|coin|magnet*|\
         bleach|detergent|pods|berries|plant|mushroom*|cigarette*|something poisonous",
        ],
    ),
    clause(
        Poisoning,
        8,
        &[
            "took|taken|gave|given|swallowed",
            "double|twice|triple|wrong|husbands|wifes|someone elses|dogs|mothers|fathers|all|all her|\
         all his|three times|ten times",
            "pill*|tablet*|medic*|insulin|morphine|dose|doses|meds",
        ],
    ),
    clause(
        Poisoning,
        6,
        &["bleach|chemical*|acid|cleaner|lye|cement", "eye|eyes"],
    ),
    // Self-harm: never excused
    always(
        SelfHarm,
        3,
        &[
            "suicid*|kill myself|killed myself|tired of living|tired of life|tired of being alive|\
         no will to live|lost the will to live|way to die|how to die|planning my death|\
         burden to everyone|burden to all|give up on life|giving up on life|cant take it any|\
         cannot take it any|cant do this any|cannot do this any|cant bear it any|no way out|\
         not be here tomorrow|say goodbye forever|died in my sleep|hate being alive|\
         done with life|done with living|take all my pills|swallow all my pills|\
         take a whole bottle|killing myself|end my life|ending my life|end it all|ending it all|\
         end my own life|take my own life|taking my own life|take my life|taking my life|\
         wish i was dead|wish i were dead|better off dead|better off without me|wanna die|\
         unalive|kms|hang myself|hanging myself|shoot myself|drown myself|self harm*|selfharm*|\
         cutting myself|harm myself|harming myself|goodbye letter|goodbye note|kill himself|\
         kill herself|kill themselves|kill themself|killing himself|killing herself|end his life|\
         end her life|overdose myself|want it to be over|want it all to be over|\
         want to disappear forever|never wake up|not wake up|cut my wrists|slit my wrists|\
         slash my wrists",
        ],
    ),
    always(
        SelfHarm,
        7,
        &[
            "want*|wish|wishing|going to|ready to|rather|just|hope",
            "to die|die|be dead|to be dead|was dead|were dead|stop existing|not exist|not be alive|\
         to stop living",
        ],
    ),
    always(
        SelfHarm,
        6,
        &[
            "dont|do not|doesnt|does not|cant|cannot|no|nothing|not|isnt|no longer|didnt",
            "want to live|wants to live|want to be alive|want to be here|wants to be here|\
         want to exist|go on living|go on anymore|go on any more|go on like this|reason to live|\
         reason to keep living|to live for|worth living|point in living|point of living|\
         want to go on|see a way out|wake up anymore|keep living|point in going on|point to life|\
         want to wake up|want to be around|want to continue|see a future|see any future|\
         future for me|hope left|meaning in life|want to carry on|carry on any|carry on like|\
         point in being|point in it all|point any|care if i live|care if i die|\
         care whether i live|live anymore|live any more",
        ],
    ),
    always(
        SelfHarm,
        9,
        &[
            "want*|going to|think about|thinking|thoughts|thought|urge*|feel like|feels like|afraid|\
         might|planning|plan|about to|scared",
            "hurt myself|hurting myself|jump off|jump in front|jumping off|hurt my baby|\
         hurting my baby|harm my baby|harming my baby|hurt my child|hurt someone|hurting someone|\
         harm someone|kill someone|kill him|kill her|kill them|harm others|hurt others|\
         hurting others|do something to myself|drive into",
        ],
    ),
    always(
        SelfHarm,
        7,
        &[
            "started|start|keep|keeps|kept|again|knife|razor|blade|wanted|wants",
            "hurting myself|hurt myself|cut myself|cutting herself|cutting himself|hurting herself|\
         hurting himself|hurt herself|hurt himself|burning myself|harming herself|harming himself",
        ],
    ),
    always(
        SelfHarm,
        9,
        &[
            "voices|voice",
            "tell*|hurt|kill|command*|order*|jump",
            "hurt|kill|harm|die|people|jump|things",
        ],
    ),
    always(
        SelfHarm,
        6,
        &[
            "life|lifes|living",
            "not worth|isnt worth|pointless|no point|unbearable|worthless|no meaning|meaningless|\
         has no sense",
        ],
    ),
    always(SelfHarm, 8, &["jump", "bridge|roof|window|train|balcony"]),
    // Unconscious, seizures
    clause(
        Unconscious,
        3,
        &[
            "unconscious|unresponsive|passed out|blacked out|collapsed|collapsing|lost consciousness|\
         loss of consciousness|losing consciousness|fainted|not responding|isnt responding|\
         doesnt respond|does not respond|wont respond|not responsive|not conscious|\
         isnt conscious|out cold|knocked out|doesnt react|not reacting|isnt reacting|\
         does not react|doesnt answer|wont open his eyes|wont open her eyes|slumped|keeled over|\
         dropped to the floor|fainting|passing out|blacking out|doesnt move any",
        ],
    ),
    clause(
        Unconscious,
        10,
        &[
            "lying|lies|found|fell",
            "floor|ground|stairs|bathroom",
            "react*|respon*|not moving|doesnt move|doesnt talk|motionless|isnt moving|cant get up|\
         cannot get up|eyes",
        ],
    ),
    clause(
        Unconscious,
        6,
        &[
            "wont|cant|cannot|not|isnt|doesnt|hard to|impossible to|difficult to|unable to|will not|\
         couldnt",
            "wake|waking|wake up|wake him|wake her|waking up|rouse|be woken|wake my",
        ],
    ),
    clause(
        Unconscious,
        3,
        &[
            "seizure|seizures|convuls*|having a fit|seizing|jerking all over|foaming at the mouth|\
         had a fit|eyes rolled|eyes roll|twitching all over|shaking uncontrollably|\
         shakes uncontrollably|whole body is shaking|whole body shaking|body is jerking|\
         fitting again",
        ],
    ),
    // Babies and children
    clause(
        Infant,
        9,
        &[
            CHILD,
            "limp|floppy|lethargic|unresponsive|blue|grey|gray|cannot wake|wont wake|not waking|\
         no wet|sunken|hardly moving|barely moving|wont stop vomiting|dehydrated",
        ],
    ),
    clause(
        Infant,
        5,
        &[
            "bulging fontanelle|bulging soft spot|sunken fontanelle|fontanelle is bulging|\
         febrile seizure|soft spot is bulging|soft spot is sunken",
        ],
    ),
    across(
        Infant,
        25,
        &[
            "stiff neck|neck stiff|neck is stiff|neck is so stiff|cant bend neck",
            "fever*|headache|rash|temperature|light|vomit*",
        ],
    ),
    across(
        Infant,
        25,
        &[
            "rash|spots",
            "doesnt fade|does not fade|not fade|wont fade|dont fade|do not fade|not fading|\
         doesnt disappear|dont disappear|doesnt go away when|glass test|not disappear|\
         under a glass",
        ],
    ),
    clause(
        Infant,
        6,
        &[
            "meningitis|sepsis|septic",
            "have|has|think|could|signs|might|is|be|symptoms",
        ],
    ),
    // Pregnancy
    across(
        Pregnancy,
        25,
        &[
            "pregnan*|weeks along|trimester",
            "bleed*|gush*|waters|water broke|not moving|stopped moving|no movement|hasnt moved|\
         isnt moving|severe|contractions|not felt|blurred|not kicked|seeing spots|fell down|\
         cramping badly",
        ],
    ),
    clause(
        Pregnancy,
        7,
        &[
            "baby|babys",
            "stopped moving|not moving|isnt moving|hasnt moved|has not moved|stopped kicking|\
         not kicking|hasnt kicked|no movement*|not felt|moving less|moves less",
        ],
    ),
    across(
        Pregnancy,
        12,
        &[
            "cant feel|cannot feel|not feel|havent felt|have not felt|dont feel|didnt feel|\
         no longer feel|not felt|hardly feel|stopped feeling",
            "baby|babys|movements|kicks",
            "move*|moving|kick*|pregnan*",
        ],
    ),
    clause(
        Pregnancy,
        4,
        &["waters broke|water broke|waters have broken|miscarr*|in labour|in labor|cord is out"],
    ),
    // The rest
    clause(
        Other,
        8,
        &[
            "stomach|abdomen|abdominal|belly|tummy|back|pain|pains|head|headache",
            "unbearable|excruciating|agony|agonising|agonizing|worst pain|worst of my life|\
         10 out of 10|ten out of ten|severe sudden|screaming|rock hard",
        ],
    ),
    clause(
        Other,
        8,
        &[
            "stomach|abdomen|abdominal|belly|tummy|side|testicle*|balls",
            "severe|extreme|terrible sudden|sudden severe|sudden|intense",
            "pain*|ache*|hurt*",
        ],
    ),
    clause(
        Other,
        12,
        &[
            "bloodsugar|sugar|glucose|hypo|insulin",
            "very low|too low|dropping|dangerously|really low|extremely|low",
            "confus*|shak*|faint*|sweat*|pass out|passing out|drowsy|unconscious|trembl*",
        ],
    ),
    clause(Other, 6, &["ketoacidosis|dka"]),
    across(
        Other,
        25,
        &[
            "hit my head|hit his head|hit her head|head injury|banged his head|banged her head|\
         banged my head|fell on his head|fell on her head|fell on my head|bumped his head|\
         bumped her head|hit their head",
            "vomit*|confus*|unconscious|passed out|throwing up|drowsy|sleepy|threw up|bleed*|\
         doesnt remember|seeing double|pupil*|dizzy|blacked out",
        ],
    ),
    clause(
        Other,
        5,
        &[
            "electrocut*|electric shock|struck by lightning|run over|hit by a car|car crash|\
         car accident|stabbed|been shot|gunshot|bone sticking|bone is sticking|\
         third degree burn*|bone coming through|snake bit*|bitten by a snake|raped|\
         sexually assaulted|heat stroke|heatstroke|hypothermia|fell from the roof|\
         fell off the roof|fell from a ladder|fell off a ladder|fell off the ladder|\
         fell from the ladder|fell out of the window|motorbike accident|bike accident|\
         hit by a truck",
        ],
    ),
    clause(
        Other,
        6,
        &["fever|temperature|temp", "41|41.*|42|106|107|105"],
    ),
    across(
        Other,
        15,
        &[
            "fever*|infection|feverish",
            "confus*|delirious|mottled|hardly wake|not making sense|cannot stand|cant stand up",
        ],
    ),
    clause(
        Other,
        5,
        &[
            "pain*|hurts",
            "worst ever|10 10|worst i have ever|worst ive ever|unbearable|cant stand it|\
         cannot stand it|screaming",
        ],
    ),
    clause(
        Other,
        8,
        &[
            "burn*|scald*",
            "severe*|large|whole|boiling|blister* all|face|third degree|entire|half of",
            "arm|leg|hand|face|body|chest|back|baby|skin|son|daughter|water",
        ],
    ),
    clause(
        Other,
        4,
        &[
            "need an ambulance|send an ambulance|call an ambulance|medical emergency|think im dying|\
         am dying|im dying|feel like im dying|going to die|is dying|help me im dying",
        ],
    ),
    clause(
        Other,
        6,
        &[
            "cannot|cant|havent|unable to|have not|no longer",
            "pee|urinate|feel my legs|move my legs|feel my leg|control my bladder",
            "all day|legs|hours|my legs|at all|since|bladder|anymore|any more|leg",
        ],
    ),
];

/// Whether a fever is spoken of, and not denied.
pub(super) fn fever(words: &[String]) -> bool {
    const FEVER: &str = "fever*|temperature|temp|38|39|40|burning up|hot|38.*|39.*|40.*|100.*|101*|102*|103*|\
        104*|febrile";
    FEVER
        .split('|')
        .flat_map(|pattern| find(words, pattern))
        .any(|place| {
            let normal = words
                .get(place.start.saturating_sub(2)..(place.end + 3).min(words.len()))
                .is_some_and(|near| {
                    near.iter().any(|word| {
                        matches!(
                            word.as_str(),
                            "normal" | "36.5" | "36.8" | "37" | "36" | "37.0" | "98.6"
                        )
                    })
                });
            !normal && !is_denied(words, &[place])
        })
}
