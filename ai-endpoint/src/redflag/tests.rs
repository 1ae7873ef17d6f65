use super::*;

/// Emergencies, as people write them.
const EMERGENCIES: [(&str, Category); 104] = [
    ("I have chest pain", Category::Heart),
    (
        "my chest hurts really bad and my left arm is tingling",
        Category::Heart,
    ),
    (
        "crushing pressure on my chest since this morning",
        Category::Heart,
    ),
    (
        "It feels like an elephant is sitting on my chest",
        Category::Heart,
    ),
    (
        "tightness in the chest when I climb stairs",
        Category::Heart,
    ),
    (
        "Pain behind my breastbone that goes into my jaw",
        Category::Heart,
    ),
    ("I think I'm having a heart attack", Category::Heart),
    ("chest pian", Category::Heart),
    (
        "Sharp stabbing feeling in my chest, sweating a lot",
        Category::Heart,
    ),
    (
        "my dad's chest feels heavy and he's sweating",
        Category::Heart,
    ),
    ("I'm not sure, my chest hurts", Category::Heart),
    ("No, my chest hurts!", Category::Heart),
    (
        "What should I do, my chest is burning and tight",
        Category::Heart,
    ),
    (
        "my heart is racing at 180 and I feel faint",
        Category::Heart,
    ),
    ("I can't breathe", Category::Breathing),
    ("cant breath properly since an hour", Category::Breathing),
    ("I can\u{2019}t catch my breath", Category::Breathing),
    ("I have trouble breathing", Category::Breathing),
    ("very short of breath, even sitting", Category::Breathing),
    ("shortness of breath at rest", Category::Breathing),
    ("my son is struggling to breathe", Category::Breathing),
    ("He is gasping for air", Category::Breathing),
    ("her lips are turning blue", Category::Breathing),
    (
        "my inhaler isn't helping and I am wheezing",
        Category::Breathing,
    ),
    ("having an asthma attack right now", Category::Breathing),
    ("it's hard to breathe lying down", Category::Breathing),
    ("grandpa stopped breathing", Category::Breathing),
    ("my wife is choking", Category::Breathing),
    ("I feel like I'm suffocating", Category::Breathing),
    ("not getting enough air", Category::Breathing),
    ("I want to kill myself", Category::SelfHarm),
    ("i dont want to live anymore", Category::SelfHarm),
    ("I'm thinking about ending my life", Category::SelfHarm),
    (
        "Everyone would be better off without me",
        Category::SelfHarm,
    ),
    ("I wish I was dead", Category::SelfHarm),
    ("thinking of suicide", Category::SelfHarm),
    ("I have suicidal thoughts", Category::SelfHarm),
    ("I just want to die", Category::SelfHarm),
    ("there is no reason to live", Category::SelfHarm),
    ("I want to end it all tonight", Category::SelfHarm),
    ("I feel like hurting myself", Category::SelfHarm),
    ("I keep cutting myself", Category::SelfHarm),
    (
        "my daughter says she wants to kill herself",
        Category::SelfHarm,
    ),
    ("life isn't worth living any more", Category::SelfHarm),
    ("I'm afraid I might hurt my baby", Category::SelfHarm),
    (
        "I can't go on like this, I want it to be over",
        Category::SelfHarm,
    ),
    (
        "one side of my husband's face is drooping",
        Category::Stroke,
    ),
    ("I think my mother is having a stroke", Category::Stroke),
    ("his speech is slurred and he is confused", Category::Stroke),
    ("My left arm suddenly went numb", Category::Stroke),
    ("cannot move my right leg all of a sudden", Category::Stroke),
    ("sudden worst headache of my life", Category::Stroke),
    ("suddenly I can't see on my left eye", Category::Stroke),
    ("she can't speak and her mouth is crooked", Category::Stroke),
    ("her words come out wrong since breakfast", Category::Stroke),
    ("weakness on one side of the body", Category::Stroke),
    ("lost vision in one eye an hour ago", Category::Stroke),
    ("the bleeding won't stop", Category::Bleeding),
    ("I'm bleeding heavily from the wound", Category::Bleeding),
    ("blood is gushing out of his leg", Category::Bleeding),
    ("I'm vomiting blood", Category::Bleeding),
    ("coughing up blood since last night", Category::Bleeding),
    ("my dressing is soaked with blood", Category::Bleeding),
    ("black tarry stools and dizzy", Category::Bleeding),
    ("soaking a pad every hour", Category::Bleeding),
    (
        "there is so much blood, it doesn't stop",
        Category::Bleeding,
    ),
    ("nosebleed for an hour, won't stop", Category::Bleeding),
    ("my throat is closing up", Category::Allergy),
    ("tongue is swelling after eating peanuts", Category::Allergy),
    (
        "I was stung by a bee and my lips are swollen",
        Category::Allergy,
    ),
    (
        "severe allergic reaction, hives everywhere",
        Category::Allergy,
    ),
    ("anaphylaxis, used my epipen", Category::Allergy),
    (
        "My face is swelling up after the new antibiotic",
        Category::Allergy,
    ),
    ("hives all over and wheezing", Category::Allergy),
    ("I took too many sleeping pills", Category::Poisoning),
    ("she took an overdose", Category::Poisoning),
    ("my toddler swallowed a button battery", Category::Poisoning),
    ("He drank bleach", Category::Poisoning),
    (
        "I swallowed a whole bottle of paracetamol",
        Category::Poisoning,
    ),
    ("took 20 tablets of ibuprofen", Category::Poisoning),
    (
        "my kid got into my blood pressure pills and ate some",
        Category::Poisoning,
    ),
    ("I injected too much insulin", Category::Poisoning),
    ("My 6 week old baby has a fever of 38.4", Category::Infant),
    (
        "My baby is two months old. She has a temperature of 38.6.",
        Category::Infant,
    ),
    ("newborn with fever", Category::Infant),
    ("our 10 day old feels very hot, 38.9", Category::Infant),
    ("the baby is limp and won't feed", Category::Infant),
    (
        "my child has a stiff neck and a high fever",
        Category::Infant,
    ),
    (
        "rash that doesn't fade when I press a glass on it",
        Category::Infant,
    ),
    ("toddler is floppy and very sleepy", Category::Infant),
    ("my father is unconscious", Category::Unconscious),
    ("he won't wake up", Category::Unconscious),
    ("she passed out twice today", Category::Unconscious),
    ("My son is having a seizure", Category::Unconscious),
    (
        "my husband collapsed in the bathroom",
        Category::Unconscious,
    ),
    ("she is unresponsive", Category::Unconscious),
    ("I'm 30 weeks pregnant and bleeding", Category::Pregnancy),
    ("pregnant, my waters broke early", Category::Pregnancy),
    (
        "the baby hasn't moved since yesterday, I'm 34 weeks along",
        Category::Pregnancy,
    ),
    ("unbearable pain in my belly", Category::Other),
    ("sudden severe stomach pain", Category::Other),
    ("he hit his head and keeps vomiting", Category::Other),
    (
        "my blood sugar is very low and I'm shaking and confused",
        Category::Other,
    ),
    ("please send an ambulance", Category::Other),
];

/// Ordinary messages, many of them close to the words above.
const ORDINARY: [&str; 104] = [
    "When is the clinic open?",
    "I have no chest pain",
    "No chest pain, no shortness of breath, no fever.",
    "He denies chest pain or trouble breathing",
    "I don't have any trouble breathing",
    "My chest does not hurt",
    "I don't have chest pain but my knee is sore",
    "What are the signs of a stroke?",
    "What is a heart attack?",
    "How can I prevent a stroke?",
    "My grandfather died of a heart attack",
    "I had a stroke in 2015 and take aspirin",
    "She had a seizure as a child",
    "Family history of stroke",
    "Is there a leaflet about anaphylaxis?",
    "I have a chest infection, do I need antibiotics?",
    "My chest x-ray is on Tuesday",
    "How do I breathe during the exercises?",
    "Breathing exercises after surgery",
    "I can breathe much better now, thank you",
    "How do I measure my blood pressure?",
    "My blood pressure is 145 over 90",
    "Do I need to fast before the blood test?",
    "They took a lot of blood tests",
    "Can I take a blood thinner with ibuprofen?",
    "A bit of blood on the dressing, is that normal?",
    "The bleeding has stopped, when do I change the dressing?",
    "My gums bleed a little when I brush",
    "I am not suicidal",
    "I'm not thinking of hurting myself",
    "My feet are killing me after the walk",
    "I hurt myself at the gym, my wrist is sore",
    "I cut myself while cooking, do I need stitches?",
    "How do I use my inhaler?",
    "How do I clean the inhaler?",
    "Which inhaler do I use first?",
    "My asthma is well controlled",
    "I forgot to take my tablet this morning",
    "How many tablets should I take?",
    "I took two paracetamol an hour ago, can I take ibuprofen?",
    "Can I take my pills with food?",
    "My toddler has a temperature of 38.2",
    "My 4 year old has a fever",
    "My baby is 6 weeks old and has no fever",
    "My baby is two months old, when is her vaccination?",
    "My newborn has a normal temperature of 36.8",
    "When will the baby's next check be?",
    "I am pregnant, can I get the flu shot?",
    "I'm 12 weeks pregnant and feel sick in the morning",
    "My arm is sore after the vaccination",
    "My left knee is swollen after surgery",
    "My leg feels weak after the physiotherapy",
    "My hand is a little numb in the morning from sleeping on it wrong",
    "I have a headache and a runny nose",
    "My back hurts when I sit",
    "I have a sore throat and a cough",
    "My ankle is swollen since I twisted it",
    "Stomach ache after the antibiotics",
    "I feel a bit dizzy when I stand up",
    "I feel sad lately and sleep badly",
    "I am worried about my operation",
    "I'm dying to know my results",
    "That was a stroke of luck",
    "I'm allergic to penicillin",
    "I have a peanut allergy, is the vaccine safe?",
    "Do I need a new EpiPen prescription?",
    "Where can I buy a plaster?",
    "I have food poisoning, what may I eat?",
    "My nose bled a little yesterday",
    "When can I shower after the operation?",
    "What should I bring to my appointment?",
    "Please renew my prescription for ramipril",
    "Can I drive after the anaesthetic?",
    "My heart medicine is running out",
    "Is my heart rate of 70 normal?",
    "The heart clinic gave me an appointment",
    "Pain in my shoulder after sleeping badly",
    "The pain is much better",
    "Can I swim with stitches?",
    "My face is red after the cream",
    "The eye drops burn a little",
    "I burned my tongue on hot coffee",
    "He fell yesterday and has a bruise on his knee",
    "My daughter bumped her knee",
    "My sugar is 7.2 after breakfast",
    "How do I treat low blood sugar?",
    "I can't sleep at night",
    "I can't find the clinic's address",
    "It is hard to open the package",
    "I have difficulty with the stairs",
    "I'm out of tablets",
    "Do I have to stop smoking before surgery?",
    "Will the wound leave a scar?",
    "My period is late",
    "I have cramps in my legs at night",
    "I had chest pain two years ago and was checked",
    "Thank you, I feel much better",
    "Can my son go to school with a cough?",
    "Is dizziness a side effect of ramipril?",
    "What does the word hypertension mean?",
    "My wife's stitches come out on Friday",
    "My baby has a rash from the diaper",
    "How long does the swelling last after a knee operation?",
    "Which vaccine do I need for travel?",
];

#[test]
fn emergencies_are_recognised_and_ordinary_messages_are_not() {
    let missed: Vec<_> = EMERGENCIES
        .iter()
        .filter(|(text, _)| check(text).is_none())
        .collect();
    let false_alarms: Vec<_> = ORDINARY
        .iter()
        .filter_map(|text| check(text).map(|found| (text, found)))
        .collect();
    assert!(
        missed.len() * 100 <= EMERGENCIES.len() * 5,
        "missed {}: {missed:#?}",
        missed.len()
    );
    assert!(
        false_alarms.len() * 100 <= ORDINARY.len() * 5,
        "false {}: {false_alarms:#?}",
        false_alarms.len()
    );
}

#[test]
fn the_kind_of_emergency_is_right() {
    let wrong: Vec<_> = EMERGENCIES
        .iter()
        .filter_map(|(text, category)| check(text).map(|found| (text, category, found)))
        .filter(|(_, category, found)| !found.categories.contains(category))
        .collect();
    assert!(wrong.len() * 100 <= EMERGENCIES.len() * 5, "{wrong:#?}");
}

#[test]
fn a_denial_covers_only_what_it_denies() {
    assert!(check("No fever, but I can't breathe").is_some());
    assert!(check("I have no fever. My chest hurts.").is_some());
    assert!(check("No chest pain and no trouble breathing").is_none());
    assert!(check("chest pain does not stop").is_some());
    assert!(check("I don't know why my chest hurts so much").is_some());
    assert!(check("not feeling well, chest pain").is_some());
}

#[test]
fn the_advice_says_whom_to_call_and_the_alert_what_it_is_about() {
    let flags = check("I took an overdose and I want to die").unwrap();
    assert_eq!(flags.categories, [Category::SelfHarm, Category::Poisoning]);
    let advice = flags.advice("112", true);
    assert!(
        advice.contains("call 112") && advice.contains("not alone"),
        "{advice}"
    );
    assert!(advice.contains("told the clinicians"));
    assert!(
        flags
            .advice("112", false)
            .contains("No clinician reads this")
    );
    assert!(flags.alert().contains("self-harm, overdose"));
    for (text, _) in EMERGENCIES {
        if let Some(flags) = check(text) {
            assert!(flags.advice("112", true).contains("112"), "{text}");
        }
    }
}

#[test]
fn any_text_is_survived() {
    for text in [
        "",
        "?",
        "\u{0}\u{1b}[2J",
        "\u{202e}niap tsehc",
        "🩺🩺",
        "ß', ' , ,",
        "1.,2.,3 weeks old",
    ] {
        check(text);
    }
    check(&"chest ".repeat(100_000));
    check(&"no pain chest can't breathe ".repeat(300));
}

/// Written after the rules and without looking at them, to see how they do on words they were not made for.
const UNSEEN_EMERGENCIES: [&str; 60] = [
    "Help, my husband grabbed his chest and fell down",
    "there's a weird tight band around my chest",
    "pain in chest radiating to the back",
    "my chest is killing me",
    "I have been having chest pains on and off all day",
    "chest discomfort and nausea since lunch",
    "My mum is having a cardiac arrest",
    "sudden chest pressure, feel sick and clammy",
    "im struggling for breath",
    "I am so breathless I can hardly talk",
    "Can barely breathe",
    "she is fighting for air",
    "breathing is getting harder and harder",
    "my baby is breathing very fast and his ribs suck in",
    "his lips look blue",
    "my ventolin doesn't help any more and I'm still wheezy",
    "woke up and couldn't breathe",
    "feel like I can't get enough air into my lungs",
    "i want to be dead",
    "I've been planning my suicide",
    "I don't see the point in living",
    "nobody would miss me if I killed myself",
    "I took a knife and started hurting myself",
    "I have thoughts of harming myself",
    "My brother texted me that he is going to kill himself",
    "I don't want to wake up tomorrow",
    "I'm going to jump off the bridge",
    "voices tell me to hurt people",
    "my mother's face looks lopsided and she talks funny",
    "half of my face is numb",
    "Dad can't lift his right arm and his speech is garbled",
    "she suddenly can't find words",
    "one sided weakness since 10 minutes",
    "I suddenly see double and can't walk straight",
    "the worst headache I ever had, came on in seconds",
    "my arm and leg on the left side don't work anymore",
    "The cut is deep and blood keeps spurting",
    "I am losing a lot of blood",
    "the wound opened and it is bleeding like crazy",
    "I coughed up bright red blood",
    "threw up something that looks like coffee grounds",
    "I can't stop the bleeding after the tooth was pulled",
    "blood is pouring from my nose",
    "My throat feels like it's closing",
    "my lips and eyes swelled up after a wasp sting",
    "I ate nuts and now I can't swallow and itch everywhere",
    "allergic reaction, my tongue feels thick and swollen",
    "I swallowed thirty of my tablets",
    "accidentally took double my heart pills, about 12 tablets",
    "my daughter drank drain cleaner",
    "grandma took all her pills at once",
    "My 5 week old has a temp of 38.7",
    "baby, 2 months, feverish and won't drink",
    "my 3 weeks old son is burning up",
    "my little boy has purple spots that don't fade under a glass",
    "My daughter can't be woken",
    "my friend is lying on the floor and doesn't react",
    "he is having convulsions",
    "I fainted and hit my head",
    "36 weeks pregnant and I can't feel the baby move",
];

/// The same for ordinary messages.
const UNSEEN_ORDINARY: [&str; 60] = [
    "Could I get an appointment for next week?",
    "Do you offer flu jabs?",
    "My stitches itch, is that normal?",
    "I've had no pain since the operation",
    "No bleeding and no fever, wound looks good",
    "I never had a heart attack",
    "Is shortness of breath a common symptom of anaemia?",
    "What does chest physiotherapy involve?",
    "Are there courses on preventing strokes?",
    "My uncle had a stroke ten years ago",
    "I had a seizure in 2010, may I drive?",
    "my blood results are in, when can we discuss them?",
    "How much blood is taken for the test?",
    "I want to donate blood",
    "I'd like to stop taking my antidepressants",
    "I feel lonely at times",
    "Work is killing me",
    "I could kill for a coffee",
    "this weather makes me want to stay in bed",
    "I can breathe through my nose again",
    "I am no longer short of breath",
    "My breathing is fine",
    "Can I use my inhaler before sport?",
    "My inhaler is almost empty",
    "How many puffs should I take?",
    "my son has hay fever",
    "My 6 month old has a cold",
    "My daughter is 8 years old and has a fever of 38.3",
    "The baby sleeps well and drinks well",
    "Is my newborn's weight okay?",
    "My baby is 4 weeks old and has a blocked nose",
    "My ankle is swollen after running",
    "My fingers are swollen in the heat",
    "The nurse was slow to speak to me",
    "I have trouble sleeping",
    "I have trouble opening the app",
    "It's hard to swallow big tablets",
    "I can't take the tablets with milk, right?",
    "I took my two tablets this morning",
    "I missed a dose yesterday",
    "Can I take 500 mg of paracetamol?",
    "May I take an aspirin with my other pills?",
    "I left my pills at home",
    "Are these berries allowed on my diet?",
    "Can my toddler take this syrup?",
    "My toddler swallowed his medicine well",
    "My face is sunburned",
    "My arm hurts after tennis",
    "My jaw clicks when I chew",
    "My right leg is shorter than the left",
    "Tingling fingers when I type",
    "Pins and needles in my feet at night",
    "I get a headache from reading",
    "Mild cramps during my period",
    "Small nosebleed, already stopped",
    "The scar is a bit numb",
    "The bruise turned blue",
    "My toes get cold in winter",
    "My cat scratched me",
    "Does the emergency number cost money?",
];

/// A third lot, again written without looking at the rules: at its first run 48 of 50 were recognised, with one false
/// alarm among the 50 ordinary messages below.
const LAST_EMERGENCIES: [&str; 50] = [
    "pain in my chest that goes down my arm",
    "My chest has felt tight for an hour and I'm sweating",
    "I have a squeezing feeling in the middle of my chest",
    "heart attack symptoms right now",
    "my chest pains are back",
    "there is a pressure in my chest and I can't sleep",
    "I can't breath when I lie down",
    "he's having real difficulty breathing",
    "I keep gasping",
    "breathing hurts and I'm short of breath",
    "my daughter has croup and struggles to breathe",
    "my inhaler does nothing, I can hardly get air",
    "she choked on a piece of meat and can't talk",
    "the baby stopped breathing for a few seconds",
    "I want to take my life",
    "I have been thinking about killing myself",
    "I'd rather be dead",
    "I am going to end my life tonight",
    "life has no meaning for me anymore, I want to die",
    "my son talks about suicide",
    "I cut my wrists",
    "sometimes I think about hurting myself",
    "my face went numb on one side",
    "my husband is slurring his words",
    "right hand suddenly weak, can't hold a cup",
    "think it's a stroke, mouth is drooping",
    "my vision went black in one eye all of a sudden",
    "she is confused all of a sudden and cannot speak",
    "my wound is bleeding and it won't stop even with pressure",
    "there's blood everywhere",
    "bleeding heavily after giving birth",
    "he cut his arm with a saw, blood is squirting",
    "vomited blood twice",
    "my tongue is swollen and I have trouble swallowing",
    "throat is swelling after bee sting",
    "my child ate a peanut and now has hives and is wheezing",
    "I think I am having an anaphylactic reaction",
    "I overdosed on my pills",
    "my son ate a handful of iron tablets",
    "took 15 paracetamol",
    "drank some antifreeze by accident",
    "my newborn feels hot and has a temperature of 38.5",
    "8 week old infant, 38.2 fever",
    "my toddler has a stiff neck, fever and a rash",
    "my wife fainted and is not waking up",
    "he is shaking all over and not responding",
    "grandma collapsed",
    "I am pregnant and have heavy bleeding",
    "haven't felt the baby kick today, 32 weeks",
    "call an ambulance please",
];

/// The same for ordinary messages.
const LAST_ORDINARY: [&str; 50] = [
    "Can I change my appointment to Friday?",
    "Do you have an interpreter?",
    "Is it normal to be tired after surgery?",
    "I have not had chest pain since the new tablets",
    "No trouble breathing, just a cough",
    "What are the symptoms of a heart attack?",
    "What is anaphylaxis?",
    "Explain what a seizure is",
    "My mother had a stroke last year, which diet is good?",
    "History of asthma in the family",
    "I used to have panic attacks",
    "How do I clean blood from the dressing?",
    "Is a blood test painful?",
    "My blood pressure was a lot lower today",
    "When should I measure my blood sugar?",
    "I bleed a little when flossing",
    "I feel down because of the weather",
    "I'm scared of the operation",
    "I do not want to take antidepressants",
    "I do not want to hurt my back again, which exercises are safe?",
    "My son hurt himself at football, his ankle is swollen",
    "My lips are dry",
    "My tongue has a white coating",
    "My throat is sore",
    "My eyes are itchy and swollen from pollen",
    "I am allergic to nuts, is the flu vaccine okay?",
    "Where do I store my EpiPen?",
    "How many painkillers may I take a day?",
    "I took a painkiller but it still hurts",
    "Took my 8 pm tablet late",
    "How do I get my child to take his medicine?",
    "My baby is teething and a bit warm",
    "My 5 year old has a temperature of 39",
    "How do I take my baby's temperature?",
    "My 10 week old has her vaccination tomorrow",
    "I'm 20 weeks pregnant, when is my next scan?",
    "Pregnant and constipated, what helps?",
    "My back pain is a bit worse today",
    "Headache since yesterday evening",
    "My left arm is itchy where the vaccine went in",
    "My right foot falls asleep when I sit",
    "My knee is stiff in the morning",
    "My neck is stiff from sleeping badly",
    "I sweat a lot at night",
    "I get out of breath when I run",
    "The exercises make me a bit breathless, is that okay?",
    "My voice is hoarse",
    "I can't find my prescription",
    "I am confused about the dose",
    "My grandfather passed away from a stroke",
];

#[test]
fn unseen_words_fare_nearly_as_well() {
    for (emergencies, ordinary) in [
        (&UNSEEN_EMERGENCIES[..], &UNSEEN_ORDINARY[..]),
        (&LAST_EMERGENCIES[..], &LAST_ORDINARY[..]),
    ] {
        let missed: Vec<_> = emergencies
            .iter()
            .filter(|text| check(text).is_none())
            .collect();
        let false_alarms: Vec<_> = ordinary
            .iter()
            .filter_map(|text| check(text).map(|found| (text, found)))
            .collect();
        assert!(
            missed.len() * 100 <= emergencies.len() * 5,
            "missed {}: {missed:#?}",
            missed.len()
        );
        assert!(
            false_alarms.len() * 100 <= ordinary.len() * 5,
            "false {}: {false_alarms:#?}",
            false_alarms.len()
        );
    }
}
