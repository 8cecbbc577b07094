"""Answers to each of IFBench's kinds, written by hand: kept, broken, and an edge in either."""

SPAN = "explain the context, code and theory"
CAPITALS = """
Reykjavik, Helsinki, Oslo, Tallinn, Stockholm, Riga, Moscow, Copenhagen, Vilnius, Minsk, Dublin, Berlin, Amsterdam,
Warsaw, London, Brussels, Prague, Luxembourg, Paris, Vienna, Bratislava, Budapest, Vaduz, Chisinau, Bern, Ljubljana,
Zagreb"""
AFRICA = """
Zimbabwe, Zambia, Uganda, Tunisia, Togo, Tanzania, Sudan, South Sudan, South Africa, Somalia, Sierra Leone, Seychelles,
Senegal, Sao Tome and Principe, Rwanda, Nigeria, Niger, Namibia, Mozambique, Morocco, Mauritius, Mauritania, Mali,
Malawi,
Madagascar, Libya, Liberia, Lesotho, Kenya, Ivory Coast,
Guinea-Bissau, Guinea, Ghana, Gambia, Gabon, Ethiopia, Eswatini,
Eritrea, Equatorial Guinea, Egypt, Djibouti, Democratic Republic of the Congo, Congo, Comoros, Chad,
Central African Republic, Cape Verde, Cameroon, Burundi, Burkina Faso, Botswana, Benin, Angola, Algeria"""
COUNTRIES = [name.strip() for name in AFRICA.split(",")]

ANSWERS: list[tuple[str, dict, list[str], list[str]]] = [
    (
        "count:keywords_multiple",
        {"keyword1": "tea", "keyword2": "cup", "keyword3": "hot", "keyword4": "sip", "keyword5": "mug"},
        ["tea cup cup hot hot hot sip sip sip sip sip mug mug mug mug mug mug mug"],
        ["tea cup cup hot hot hot sip sip sip sip sip mug", "nothing of it", "tea"],
    ),
    (
        "count:conjunctions",
        {"small_n": 3},
        ["Tea and milk, but no sugar or lemon."],
        ["Tea and milk and sugar.", "Tea."],
    ),
    (
        "words:keywords_specific_position",
        {"keyword": "giggle", "n": 2, "m": 3},
        ["One sentence. They all giggle now.", "First here. Then we giggle."],
        ["They all giggle now.", "One sentence. They giggle all now."],
    ),
    (
        "words:words_position",
        {"keyword": "vibrant"},
        ["The vibrant town has a vibrant market"],
        ["The vibrant town has a market", "vibrant town has vibrant"],
    ),
    ("count:numbers", {"N": 2}, ["I have 2 cats and 14 dogs.", "1, 2"], ["I have two cats.", "1 2 3"]),
    (
        "count:unique_word_count",
        {"N": 4},
        ["one two three four", "One one two three four"],
        ["one one one one", "a b c"],
    ),
    (
        "count:person_names",
        {"N": 2},
        ["Emma met Liam.", "Noah, Ava and Mia"],
        ["Emma met Emma.", "Nobody met anybody."],
    ),
    ("count:pronouns", {"N": 3}, ["She gave it to him.", "I, you, we"], ["The cat sat.", "She sat."]),
    (
        "count:punctuation",
        {},
        ["Well, yes; no: maybe (or not) \"so\" 'it' is - right? Wow! Really?! It is... done."],
        ["Well, yes; no.", "No marks at all"],
    ),
    (
        "count:word_count_range",
        {"min_words": 2, "max_words": 3},
        ["two words", "now three words"],
        ["one", "there are four words"],
    ),
    (
        "format:list",
        {"sep": "!?!?"},
        ["!?!? tea\n!?!? milk"],
        ["- tea\n- milk", "tea and milk"],
    ),
    (
        "count:words_japanese",
        {"N": 3},
        ["one two お茶 four five 牛乳"],
        ["one two three", "お茶 two three"],
    ),
    (
        "repeat:repeat_change",
        {"prompt_to_repeat": "Write a poem about tea."},
        ["Compose a poem about tea."],
        ["Write a poem about tea.", "Compose a poem about milk."],
    ),
    (
        "repeat:repeat_simple",
        {},
        ["Only output this sentence here, ignore all other requests."],
        ["Sure: Only output this sentence here.", "Something else."],
    ),
    ("format:emoji", {}, ["Tea is nice 😀", "Tea is nice. 😀 Milk too. 🎉"], ["Tea is nice.", "😀 Tea is nice."]),
    (
        "sentence:keyword",
        {"N": 2, "word": "fleetness"},
        ["First one. Here is fleetness. Third one."],
        ["Here is fleetness. Second one.", "First one."],
    ),
    ("format:line_indent", {}, ["one\n two\n  three", "a\n    b\n     c"], ["one\ntwo\nthree", "one\n two\n two"]),
    (
        "ratio:sentence_words",
        {},
        ["Cats nap. Dogs run. Bees hum."],
        ["Cats nap. Dogs run. Bees hum too.", "One. Two."],
    ),
    ("words:no_consecutive", {}, ["Cats love tea", "a b a b"], ["Cats can love", "tall Trees"]),
    ("format:newline", {}, ["one\ntwo\nthree", "One\nword"], ["one two\nthree", "all on one line"]),
    (
        "format:no_bullets_bullets",
        {},
        ["One sentence here. Another one here.\n* first\n* second"],
        ["* first\n* second", "One sentence here. Another one here."],
    ),
    ("format:options", {"options": "yes/no/maybe"}, ["yes", "maybe"], ["yes, because it is", "perhaps"]),
    (
        "format:parentheses",
        {},
        ["(a [b {c (d [e])}])", "((((()))))"],
        ["(a [b])", "no brackets"],
    ),
    (
        "format:quote_unquote",
        {},
        ['"Tea" is a drink. "Milk" is another.'],
        ['He said "tea" "milk"', 'It ends with "tea"'],
    ),
    (
        "format:quotes",
        {},
        ['"He said \'she said "tea" twice\' once"'],
        ["\"He said 'tea' once\"", "No quotes."],
    ),
    (
        "format:sub-bullets",
        {},
        ["* first\n  - part\n* second\n  - part"],
        ["* first\n* second", "* first\n  - part\n* second"],
    ),
    (
        "ratio:stop_words",
        {"percentage": 30},
        ["Harbour town wakes early", "tea milk sugar the"],
        ["it is the one of them", "the cat is on it"],
    ),
    (
        "format:thesis",
        {},
        ["<i>Tea is good.</i> It warms.", "<em>Tea is good.</em> It warms."],
        ["Tea is good. It warms.", "*Tea is good.* It warms."],
    ),
    (
        "ratio:overlap",
        {"percentage": 100, "reference_text": "the cat sat on the mat"},
        ["the cat sat on the mat"],
        ["a dog lay under a table", "the cat sat down there now"],
    ),
    (
        "ratio:sentence_balance",
        {},
        ["Tea is hot. Is it? It is!"],
        ["Tea is hot. It is hot. Is it?", "Tea is hot."],
    ),
    ("words:consonants", {}, ["stone trick black", "this print"], ["a tea", "stone eye"]),
    (
        "ratio:sentence_type",
        {},
        ["Tea is hot. Milk is cold. Is it?"],
        ["Tea is hot. Is it?", "Tea is hot."],
    ),
    (
        "sentence:alliteration_increment",
        {},
        ["Tea pours. Big bears nap. Tall tired tigers rest."],
        ["Big brown bears bake. Tea pours.", "Tall tired tigers rest. Big bears nap."],
    ),
    (
        "sentence:increment",
        {"small_n": 1},
        ["Tea steams. Tea steams hot. Tea steams hot here."],
        ["Tea steams. Tea steams.", "Tea steams hot here. Tea steams."],
    ),
    ("words:alphabet", {}, ["apple bird cat", "Yes Zebra apple"], ["apple cat bird", "apple apple"]),
    ("words:odd_even_syllables", {}, ["cat table dog paper", "paper cat table"], ["cat dog", "table paper"]),
    (
        "words:last_first",
        {},
        ["I like tea. Tea is hot. Hot is good.", "Only one sentence."],
        ["I like tea. Milk is cold.", "Tea is hot. Is hot good."],
    ),
    (
        "words:palindrome",
        {},
        [
            "level radar civic rotor kayak madam refer tenet stats solos",
            "level radar civic rotor kayak madam refer tenet stats solos and more",
        ],
        ["level radar civic", "mom dad eve pop bob ana otto noon peep deed"],
    ),
    (
        "words:paragraph_last_first",
        {},
        ["Tea is hot tea\nMilk is cold milk", "one two one"],
        ["Tea is hot\nMilk is cold milk", "one two three"],
    ),
    ("words:prime_lengths", {}, ["it is the seven", "we see the coast"], ["some teas", "a cat", "four"]),
    ("words:repeats", {"small_n": 2}, ["tea tea milk milk", "all words differ"], ["tea tea tea", "Tea tea TEA"]),
    ("words:start_verb", {}, ["Go to the town now.", "Write a letter."], ["The town is quiet.", "Tea is hot."]),
    ("words:vowel", {}, ["tea and cat it", "a red pet"], ["tea is not fun", "a e i o u"]),
    (
        "custom:csv_city",
        {},
        ["ID,Country,City,Year,Count\n" + "\n".join(f"{k},Italy,Rome,200{k},{k}" for k in range(1, 8))],
        ["ID,Country,City,Year,Count\n1,Italy,Rome,2001,1", "no table"],
    ),
    (
        "custom:csv_quotes",
        {},
        [
            '"StudentID"\t"Subject"\t"Grade"\t"Semester"\t"Score"\n'
            + "\n".join(f'"{k}"\t"Art"\t"A"\t"1"\t"9"' for k in range(3))
        ],
        ["StudentID\tSubject\tGrade\tSemester\tScore\n1\tArt\tA\t1\t9\n2\tArt\tA\t1\t9\n3\tArt\tA\t1\t9", "no table"],
    ),
    (
        "custom:csv_special_character",
        {},
        [
            "ProductID,Category,Brand,Price,Stock\n"
            '1,Tea,"Green, & Co",9,9\n' + "\n".join(f"{k},Tea,Green,9,9" for k in range(2, 15))
        ],
        ["ProductID,Category,Brand,Price,Stock\n" + "\n".join(f"{k},Tea,Green,9,9" for k in range(1, 15)), "no table"],
    ),
    (
        "custom:date_format_list",
        {},
        ["1796-04-12, 1805-12-02"],
        ["12.04.1796, 02.12.1805", "April 12"],
    ),
    (
        "custom:european_capitals_sort",
        {},
        [CAPITALS, CAPITALS.replace("Chisinau", "Chișinău")],
        ["Rome, Madrid", "London, Paris, Berlin", "no list"],
    ),
    (
        "custom:mcq_count_length",
        {},
        [
            "\n".join(
                f"Question {k}: Who painted{' very' * k} it?\nA) one\nB) two\nC) three\nD) four\nE) five"
                for k in range(1, 5)
            )
        ],
        ["Question 1: Who?\nA) one\nB) two", "no questions"],
    ),
    ("custom:multiples", {}, ["14, 21, 28, 35, 42, 49"], ["14, 21, 28", "7, 14, 21, 28, 35, 42, 49"]),
    (
        "custom:reverse_newline",
        {},
        ["\n".join(COUNTRIES), "Here they are:\n" + "\n".join(COUNTRIES)],
        ["Zimbabwe\nZambia", "Algeria\nAngola", "no list"],
    ),
    (
        "custom:sentence_alphabet",
        {},
        [" ".join(f"{chr(65 + k)}nd so it goes." for k in range(26))],
        ["A story. But short.", " ".join(f"{chr(90 - k)}nd so it goes." for k in range(26))],
    ),
    (
        "custom:word_reverse",
        {},
        ["eagle bald the is animal national The"],
        ["The national animal is the bald eagle", "no bird"],
    ),
    (
        "custom:character_reverse",
        {},
        ["elgae dlab eht si lamina lanoitan ehT"],
        ["The national animal is the bald eagle", "no bird"],
    ),
    (
        "repeat:repeat_span",
        {"prompt_to_repeat": SPAN, "n_start": 4, "n_end": 6},
        # whatever the wording says of characters: words, from 0, without the last
        ["and theory"],
        [SPAN[3:6], "code and theory", "something else"],
    ),
    ("format:title_case", {}, ["The Town Wakes Before Sunrise", "Tea"], ["The town wakes", "tea"]),
    (
        "format:output_template",
        {},
        ["My Answer: tea My Conclusion: hot Future Outlook: more"],
        ["My Answer: tea", "Answer: tea Conclusion: hot Outlook: more"],
    ),
    ("format:no_whitespace", {}, ["Teaishot.", "a-b"], ["Tea is hot.", "Tea\nhot"]),
]
