import re
from itertools import combinations

from rtt.data.kinds import END_PHRASES
from rtt.data.prompts import load_topics

TOPICS = load_topics()
GLUE = {
    "a", "an", "the", "to", "of", "in", "on", "at", "for", "from", "with", "and", "or", "is", "it", "your", "you",
    "someone", "one", "how", "do", "does", "why", "what", "when", "whether", "say", "tell", "write", "give",
    "explain", "describe", "suggest", "advise", "advice", "short", "note", "friend",
}  # fmt: skip


def test_there_are_enough_topics_and_each_is_named_once():
    assert len(TOPICS) >= 180
    assert len({topic.slug for topic in TOPICS}) == len(TOPICS)
    assert [topic.slug for topic in TOPICS] == sorted(topic.slug for topic in TOPICS)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", topic.slug) for topic in TOPICS)


def test_tasks_are_short_sentences():
    for topic in TOPICS:
        assert re.fullmatch(r"[A-Z].*[.?]", topic.task), topic.slug
        assert len(topic.task.split()) <= 16, topic.slug


def test_no_two_tasks_are_near_duplicates():
    content = {topic.slug: set(re.findall(r"[a-z]+", topic.task.lower())) - GLUE for topic in TOPICS}
    for first, second in combinations(content, 2):
        shared, union = content[first] & content[second], content[first] | content[second]
        assert len(shared) / len(union) < 0.5, (first, second)


def test_words_can_be_keywords_and_forbidden_words():
    for topic in TOPICS:
        assert 4 <= len(topic.words) <= 8, topic.slug
        assert all(re.fullmatch(r"[a-z]{4,}", word) for word in topic.words), topic.slug
        # A keyword is looked for inside words as well: one that holds another could not be told from it.
        assert not [pair for pair in combinations(topic.words, 2) if pair[0] in pair[1] or pair[1] in pair[0]], (
            topic.slug
        )


def test_end_phrases_are_distinct_and_some_have_a_comma():
    assert len(set(END_PHRASES)) == len(END_PHRASES)
    assert any("," in phrase for phrase in END_PHRASES)
