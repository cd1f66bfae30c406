"""What Ollama wants to know beside a .gguf file (github.com/ollama/ollama, docs/modelfile.md)."""

from typing import Any

from explorer.model.chat import wrapping


def modelfile(file: str, tokenizer: Any, ends: list[int]) -> str:
    """Template, stop words and parameters; of a template that cannot be told in Ollama's words nothing is said."""
    lines = [f"FROM ./{file}"]
    if tokenizer.chat_template:
        try:
            before, after = wrapping(tokenizer)
        except ValueError:
            before = after = ""
        if (before or after) and not any(sign in before + after for sign in ('"""', "{{")):
            lines.append(f'TEMPLATE """{before}{{{{ .Prompt }}}}{after}"""')
    texts = [tokenizer.convert_ids_to_tokens(each) for each in ends]
    lines += [f'PARAMETER stop "{text}"' for text in texts if isinstance(text, str) and '"' not in text]
    return "\n".join([*lines, "PARAMETER temperature 0.7", ""])
