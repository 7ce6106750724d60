"""HaloLlama answers like an ordinary Llama: the same forward pass behind both, the same text from both."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llama_cpp import Llama, LlamaGrammar, LogitsProcessorList, StoppingCriteriaList
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

from tests.llama.conftest import N_CTX, Pair

PROMPT = "Once upon a time, there was a little"

SAMPLERS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "defaults": {},
    "hot": {"temperature": 1.7},
    "top_k": {"top_k": 5},
    "all_tokens": {"top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "top_p": {"top_p": 0.5},
    "min_p": {"min_p": 0.2, "temperature": 1.2},
    "typical_p": {"typical_p": 0.6},
    "repeat_penalty": {"repeat_penalty": 1.4},
    "frequency_penalty": {"frequency_penalty": 0.8},
    "presence_penalty": {"presence_penalty": 0.9},
    "mirostat": {"mirostat_mode": 1, "mirostat_tau": 3.0},
    "mirostat_v2": {"mirostat_mode": 2, "mirostat_eta": 0.2},
    "plain_distribution": {"temperature": -1.0},
}


def completion(prompt: Any = PROMPT, **options: Any) -> Callable[[Llama], dict[str, Any]]:
    """Ask for a completion, and leave out of the answer what differs with every call."""

    def ask(llama: Llama) -> dict[str, Any]:
        answer = llama.create_completion(prompt, **{"max_tokens": 32, "seed": 7, **options})
        return {key: answer[key] for key in ("choices", "usage")}

    return ask


def assert_same(pair: Pair, ask: Callable[[Any], Any]) -> Any:
    expected, got = pair.both(ask)
    assert got == expected
    return got


@pytest.mark.parametrize("settings", SAMPLERS.values(), ids=SAMPLERS)
def test_samplers_choose_the_same_tokens(pair: Pair, settings: dict[str, Any]) -> None:
    for seed in (1, 2):
        assert_same(pair, completion(seed=seed, **settings))


def test_the_same_seed_gives_the_same_text_and_another_one_another(pair: Pair) -> None:
    texts = [completion(seed=seed, temperature=1.5)(pair.halo)["choices"][0]["text"] for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_streamed_chunks_are_the_same(pair: Pair) -> None:
    def ask(llama: Llama) -> list[Any]:
        chunks = llama.create_completion(PROMPT, max_tokens=24, seed=3, stream=True)
        return [chunk["choices"] for chunk in chunks]

    assert len(assert_same(pair, ask)) > 8


def test_logit_bias(pair: Pair) -> None:
    unbiased = assert_same(pair, completion(temperature=0.0))
    first = next(pair.halo.generate(pair.halo.prompt_tokens(PROMPT), temp=0.0))
    biased = assert_same(pair, completion(temperature=0.0, logit_bias={first: -100.0}))
    assert biased["choices"] != unbiased["choices"]


def test_logits_processor_sees_tokens_and_logits(pair: Pair) -> None:
    def ask(llama: Llama) -> Any:
        seen: list[list[int]] = []

        def reverse(tokens: Any, logits: Any) -> Any:
            seen.append(list(tokens))
            return -np.asarray(logits)

        answer = completion(max_tokens=8, logits_processor=LogitsProcessorList([reverse]))(llama)
        return answer, seen

    answer, seen = assert_same(pair, ask)
    assert len(seen) >= answer["usage"]["completion_tokens"] > 0


def test_stopping_criteria_end_the_text(pair: Pair) -> None:
    def ask(llama: Llama) -> Any:
        after_four = StoppingCriteriaList([lambda tokens, logits: len(tokens) >= n_prompt + 4])
        return completion(stopping_criteria=after_four)(llama)

    n_prompt = len(pair.halo.prompt_tokens(PROMPT))
    assert assert_same(pair, ask)["usage"]["completion_tokens"] <= 5


def test_stopping_criteria_see_the_last_logits_without_logits_all(pair: Pair) -> None:
    seen = []

    def look(tokens: Any, logits: Any) -> bool:
        seen.append(int(np.argmax(logits)))
        return False

    tokens = pair.halo.prompt_tokens(PROMPT)
    chosen = pair.halo.generate(tokens, temp=0.0, stopping_criteria=StoppingCriteriaList([look]))
    assert [next(chosen) for _ in range(5)] == seen


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings(pair: Pair, stream: bool) -> None:
    text = completion(temperature=0.0)(pair.ordinary)["choices"][0]["text"]
    stop = [text[len(text) // 2 :][:4], "never in the text"]

    def ask(llama: Llama) -> Any:
        answer = llama.create_completion(PROMPT, max_tokens=32, temperature=0.0, stop=stop, stream=stream)
        return [chunk["choices"] for chunk in answer] if stream else answer["choices"]

    assert assert_same(pair, ask)[-1]


def test_gbnf_grammar(pair: Pair) -> None:
    grammar = LlamaGrammar.from_string('root ::= ("yes" | "no") "!"', verbose=False)
    answer = assert_same(pair, completion(grammar=grammar))
    assert answer["choices"][0]["text"] in ("yes!", "no!")


def test_json_schema(pair: Pair) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["cat", "dog"]}, "tame": {"type": "boolean"}},
        "required": ["kind", "tame"],
    }

    def ask(llama: Llama) -> Any:
        answer = llama.create_chat_completion(
            [{"role": "user", "content": "Which animal?"}],
            response_format={"type": "json_object", "schema": schema},
            max_tokens=64,
            seed=5,
        )
        return answer["choices"]

    animal = json.loads(assert_same(pair, ask)[0]["message"]["content"])
    assert animal["kind"] in ("cat", "dog")
    assert isinstance(animal["tame"], bool)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("template", ["of the model", "chatml", "jinja"])
def test_chat(make_pair: Callable[..., Pair], template: str, stream: bool) -> None:
    pair = make_pair(chat_format="chatml" if template == "chatml" else None)
    if template == "jinja":
        text = "{% for m in messages %}{{ bos_token }}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
        handler = Jinja2ChatFormatter(text, eos_token="</s>", bos_token="").to_chat_handler()
        pair.ordinary.chat_handler = pair.halo.chat_handler = handler

    def ask(llama: Llama) -> Any:
        messages = [{"role": "user", "content": "Tell me of a cat."}]
        answer = llama.create_chat_completion(messages, max_tokens=16, seed=11, stream=stream)
        return [chunk["choices"] for chunk in answer] if stream else (answer["choices"], answer["usage"])

    assert_same(pair, ask)
    # A second turn goes on from the first one's cache.
    assert_same(pair, ask)


@pytest.mark.parametrize("echo", [False, True])
def test_logprobs(make_pair: Callable[..., Pair], echo: bool) -> None:
    answer = assert_same(make_pair(logits_all=True), completion(logprobs=3, echo=echo, max_tokens=8))
    assert len(answer["choices"][0]["logprobs"]["top_logprobs"]) >= 8


def test_logprobs_need_logits_all_as_in_llama(pair: Pair) -> None:
    for llama in pair.both(lambda llama: llama):
        with pytest.raises(ValueError, match="logits_all"):
            completion(logprobs=3)(llama)


def test_speculation_from_the_prompt(make_pair: Callable[..., Pair]) -> None:
    draft = LlamaPromptLookupDecoding(num_pred_tokens=4)
    pair = make_pair(logits_all=True, draft_model=draft)
    assert_same(pair, completion(PROMPT + " girl. There was a little", temperature=0.0))


def test_longer_prompts_than_a_batch(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(n_batch=16)
    assert_same(pair, completion(PROMPT * 5, temperature=0.0))
    assert pair.engine.forwards > 5


def test_a_prompt_that_starts_like_the_last_one_is_not_evaluated_again(pair: Pair) -> None:
    assert_same(pair, completion(PROMPT + " girl", temperature=0.0))
    for prompt in (PROMPT + " boy", PROMPT, PROMPT + " girl", PROMPT + " girl"):
        before = pair.engine.forwards
        assert_same(pair, completion(prompt, temperature=0.0, max_tokens=4))
        assert pair.engine.forwards <= before + 4


def test_a_roll_back_by_hand(pair: Pair) -> None:
    def ask(llama: Llama) -> Any:
        tokens = llama.tokenize(PROMPT.encode())
        llama.reset()
        llama.eval(tokens)
        llama.n_tokens = len(tokens) - 3
        llama.eval(tokens[-3:])
        return [llama.sample(temp=0.0), llama.n_tokens, list(llama.eval_tokens)]

    assert_same(pair, ask)


def test_the_prompts_tokens_are_those_of_create_completion(pair: Pair) -> None:
    for prompt in ("", " ", PROMPT, "a\n\nb", "naïve ☃ 漢字"):
        usage = completion(prompt, max_tokens=1)(pair.ordinary)["usage"]
        assert len(pair.halo.prompt_tokens(prompt)) == usage["prompt_tokens"]


def test_a_prompt_beyond_the_context_window_is_an_error(pair: Pair) -> None:
    for llama in pair.both(lambda llama: llama):
        with pytest.raises(ValueError, match=f"exceed context window of {N_CTX}"):
            llama.create_completion(list(range(10, 10 + N_CTX)))
        with pytest.raises(RuntimeError):
            llama.reset()
            llama.eval([10] * (N_CTX + 1))


def test_text_ends_where_the_context_window_does(pair: Pair) -> None:
    no_end = {pair.halo.token_eos(): -100.0}
    answer = assert_same(pair, completion([10] * (N_CTX - 5), max_tokens=100, logit_bias=no_end))
    assert answer["usage"]["total_tokens"] == N_CTX


def test_what_the_model_says_of_itself(pair: Pair) -> None:
    for ask in (
        lambda llama: llama.n_ctx(),
        lambda llama: llama.n_vocab(),
        lambda llama: llama.n_embd(),
        lambda llama: llama.metadata,
        lambda llama: llama.chat_format,
        lambda llama: llama.n_batch,
    ):
        assert_same(pair, ask)
