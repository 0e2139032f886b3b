"""What is changed in a file: the one value, and no other byte; what is unclear is refused."""

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations._images import parse_image
from integrations._merging_files import Wish, edited, pairs
from integrations._merging_yaml import steps_of, values_at, with_value
from responder.errors import StepFailed

IMAGE = "registry.example/shop/cart"
NEW = f"sha256:{'a' * 64}"
OLD = f"sha256:{'0' * 64}"


def wish(kind: str, key: str = "", image: str = IMAGE) -> Wish:
    """Return a wish for the new digest."""
    return Wish(kind=kind, file="f.yaml", key=key, image=parse_image(image), digest=NEW)


DEPLOYMENT = f"""\
apiVersion: v1
kind: ConfigMap
data:
  note: |
    image: elsewhere/cart:1
---
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      initContainers:
      - image: {IMAGE}:1.4 # the same image, before
        name: prepare
      containers:
        - name: proxy
          image: "registry.example/shop/proxy:1"
        - name: app
          image: '{IMAGE}@{OLD}'
          args: [--port, "80"]
"""
KUSTOMIZATION = f"""\
resources:
- deployment.yaml
images:
- name: proxy
  newName: registry.example/shop/proxy
  newTag: "1"
- name: cart
  newName: {IMAGE}
  newTag: "1.4" # moves
- digest: {OLD}
  name: {IMAGE}
"""
ROWS = {
    "every image: line of a manifest that names the image": (
        wish("manifest"), DEPLOYMENT,
        [(f"      - image: {IMAGE}:1.4 # the same image, before",
          f"      - image: {IMAGE}@{NEW} # the same image, before"),
         (f"          image: '{IMAGE}@{OLD}'", f"          image: '{IMAGE}@{NEW}'")],
    ),
    "one container by its name": (
        wish("manifest", "spec.template.spec.containers[app].image"), DEPLOYMENT,
        [(f"          image: '{IMAGE}@{OLD}'", f"          image: '{IMAGE}@{NEW}'")],
    ),
    "one container by its number, in a list as far left as its key": (
        wish("manifest", "spec.template.spec.initContainers[0].image"), DEPLOYMENT,
        [(f"      - image: {IMAGE}:1.4 # the same image, before",
          f"      - image: {IMAGE}@{NEW} # the same image, before")],
    ),
    "a whole reference of a chart": (
        wish("values", "cart.image"), f"cart:\n  image: {IMAGE}:1.4\n",
        [(f"  image: {IMAGE}:1.4", f"  image: {IMAGE}@{NEW}")],
    ),
    "a digest that was empty": (
        wish("values", "image.digest"), f'image:\n  repository: {IMAGE}\n  digest: "" # none\n',
        [('  digest: "" # none', f'  digest: "{NEW}" # none')],
    ),
    "a digest that was not there but its name": (
        wish("values", "image.digest"), f"image:\n  digest:\n  repository: {IMAGE}\n",
        [("  digest:", f"  digest: {NEW}")],
    ),
    "a digest that was only a comment": (
        wish("values", "image.digest"), "image:\n  digest: # none\n",
        [("  digest: # none", f"  digest: {NEW} # none")],
    ),
    "a tag keeps its name": (
        wish("values", "image.tag"),
        'image: # ours\n  registry: registry.example\n  repository: shop/cart\n  tag: "1.4"\n',
        [('  tag: "1.4"', f'  tag: "1.4@{NEW}"')],
    ),
    "a tag that has a digest already": (
        wish("values", "image.tag"), f"image:\n  tag: 1.4@{OLD}\n",
        [(f"  tag: 1.4@{OLD}", f"  tag: 1.4@{NEW}")],
    ),
    "kustomize: a tag becomes the digest": (
        wish("kustomize"), KUSTOMIZATION,
        [('  newTag: "1.4" # moves', f'  digest: "{NEW}" # moves')],
    ),
    "kustomize: a digest": (
        wish("kustomize", IMAGE), KUSTOMIZATION, [(f"- digest: {OLD}", f"- digest: {NEW}")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_only_the_value_changes(row: tuple[Wish, str, list[tuple[str, str]]]) -> None:
    """Quotes, comments and all other lines stay, and twice is once."""
    asked, text, wanted = row
    after = edited(text, asked)
    assert pairs(text, after) == wanted
    assert edited(after, asked) == after
    assert text.endswith("\n") == after.endswith("\n")
    list(yaml.safe_load_all(after))


REFUSED = {
    "no image: line of it names": (wish("manifest", image="registry.example/x/y:1"), DEPLOYMENT),
    "no place": (wish("values", "cart.gone"), "cart:\n  image: x\n"),
    "no place that names": (wish("values", "image"), "image: registry.example/shop/web:1\n"),
    "expected one": (
        wish("manifest", "spec.image"),
        f"spec:\n  image: {IMAGE}\n---\nspec:\n  image: {IMAGE}\n",
    ),
    "names another image": (
        wish("values", "image.digest"),
        f"image:\n  repository: shop/web\n  digest: {OLD}\n",
    ),
    "holds no digest": (wish("values", "image.digest"), "image:\n  digest: latest\n"),
    "holds no tag": (wish("values", "image.tag"), 'image:\n  tag: ""\n'),
    "line 1 cannot be changed safely": (wish("values", "image.tag"), "image: {tag: 1}\n"),
    "line 2 cannot be changed safely": (wish("values", "image.tag"), "image:\n  tag: &one 1\n"),
    "no plain or quoted value of one line": (wish("values", "a.tag"), "a:\n  tag: >-\n    1\n"),
    "is there twice": (wish("values", "a.tag"), "a:\n  tag: 1\n  tag: 2\n"),
    "expected one key of a block": (wish("values", "a.tag"), "a:\n  ? x\n  tag: 1\n"),
    "no entry in images": (wish("kustomize"), "images:\n- name: other\n  newTag: 1\n"),
    "no newTag and no digest": (wish("kustomize"), f"images:\n- name: {IMAGE}\n  x: 1\n"),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_unclear_is_refused_with_the_file_and_the_reason(words: str) -> None:
    """A guess would be a change that nobody asked for."""
    asked, text = REFUSED[words]
    with pytest.raises(StepFailed, match=rf"f\.yaml: .*{words}"):
        edited(text, asked)


def test_a_base_is_changed_in_the_lines_that_choose_one() -> None:
    """Case, spaces and stage names as Docker takes them; half a name is none."""
    text = "from --platform=x b/base:1 AS a\n  FROM b/base:1.2\nARG B=b/base:1\nRUN b/base:1\n"
    asked = Wish(
        kind="dockerfile",
        file="f.yaml",
        image=parse_image(IMAGE),
        base=f"b/base@{NEW}",
        instead_of="b/base:1",
    )
    after = edited(text, asked)
    assert pairs(text, after) == [
        ("from --platform=x b/base:1 AS a", f"from --platform=x b/base@{NEW} AS a"),
        ("ARG B=b/base:1", f"ARG B=b/base@{NEW}"),
    ]
    assert edited(after, asked) == after
    with pytest.raises(StepFailed, match="builds on no b/base:1"):
        edited("FROM c/other:1\n", asked)


@pytest.mark.parametrize("path", ["", "a..b", "a[", "a[x]]", ".a", "a b", "[0].x"])
def test_what_is_no_path_is_said(path: str) -> None:
    """The configuration is checked with it."""
    with pytest.raises(ValueError, match="expected NAMES"):
        steps_of(path)


NAMES = st.text("abcdefgh-", min_size=1, max_size=6).filter(lambda s: s.strip("-") == s)
LEAVES = st.one_of(
    st.text("abcxyz:/.@019-", min_size=1, max_size=12).filter(lambda s: s[0].isalnum()),
    st.sampled_from(["a multi\nline\ntext\n", "", "x: y", "# no comment", "- no list", "key: [1]"]),
)
TREES = st.recursive(
    LEAVES,
    lambda below: st.one_of(
        st.dictionaries(NAMES, below, min_size=1, max_size=4), st.lists(below, max_size=3)
    ),
    max_leaves=14,
)


def places(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every value below names and numbers, with its path."""
    found: list[tuple[str, Any]] = []
    if isinstance(tree, dict):
        for name, below in tree.items():
            found += places(below, f"{path}.{name}" if path else name)
    elif isinstance(tree, list):
        for at, below in enumerate(tree):
            if isinstance(below, dict) and path and not path.endswith("]"):
                found += places(below, f"{path}[{at}]")
    else:
        found.append((path, tree))
    return found


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, TREES, min_size=1, max_size=4), st.data())
def test_a_changed_value_is_the_only_thing_that_another_reader_sees(
    tree: dict[str, Any], data: Any
) -> None:
    """PyYAML reads the same before and after, but for that place; or it was refused."""
    text = yaml.safe_dump(tree, default_flow_style=False, sort_keys=False)
    listed = [(path, value) for path, value in places(tree) if path and not path.endswith("]")]
    if not listed:
        return
    path, value = data.draw(st.sampled_from(listed))
    try:
        found = values_at(text, steps_of(path))
    except StepFailed:
        return
    if not found:
        assert "[" in path  # only an element that is written in a way of its own is not found
        return
    [one] = found
    assert one.text == value
    after = yaml.safe_load(with_value(text, one, "changed-here"))
    assert dict(places(after)) == {**dict(places(tree)), path: "changed-here"}
