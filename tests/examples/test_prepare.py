import json

from clipreid_kit.data import count_clip_tokens
from examples.prepare import (
    analyse_prompts,
    filter_identities,
    generate_prompts,
    structured_prompts,
)

_LINE = "A woven blouse with a deep V-neckline, fluttery cap sleeves and a row of contrast piping along the hem. "


def test_the_four_steps_end_in_prompts_that_fit(tmp_path, capsys):
    def file(name):
        return str(tmp_path / name)

    def content(name):
        return json.loads((tmp_path / name).read_text())

    paths = {
        f"img/WOMEN/Blouses_Shirts/{item}/{variant}_1_front.jpg": {
            "item_id": item,
            "split": "train",
        }
        for item, variant in (
            ("id_1", "01"),
            ("id_1", "02"),
            ("id_2", "01"),
            ("id_3", "01"),
            ("id_3", "02"),
        )
    }
    (tmp_path / "paths.json").write_text(json.dumps(paths))
    descriptions = [
        {"item": "id_1", "color": "Red", "description": [_LINE * 6, "Hand wash."]},
        {"item": "id_2", "color": "Blue", "description": ["Short."]},
    ]
    (tmp_path / "list.json").write_text(json.dumps(descriptions))

    common = ["--image-paths", file("paths.json")]
    generate_prompts.main(
        ["--descriptions", file("list.json"), *common, "--out", file("prompts.json")]
    )
    assert capsys.readouterr().out == "3 prompts, 1 of them longer than 77 tokens\n"
    assert content("prompts.json")["id_3"] == "A photo of id 3"

    analyse_prompts.main([*common, "--prompts", file("prompts.json"), "--split", "train"])
    assert "1 identities with one image: id_2" in capsys.readouterr().out

    clean = ["--out-image-paths", file("clean.json"), "--out-prompts", file("prompts_clean.json")]
    filter_identities.main([*common, "--prompts", file("prompts.json"), *clean])
    assert capsys.readouterr().out == "kept 4 of 5 images and 2 of 3 prompts\n"
    assert set(content("prompts_clean.json")) == {"id_1", "id_3"}

    for key, names in (("identity", {"id_1"}), ("variant", {"id_1/01", "id_1/02"})):
        options = [
            "--descriptions",
            file("list.json"),
            "--image-paths",
            file("clean.json"),
            "--key",
            key,
        ]
        structured_prompts.main([*options, "--out", file(f"{key}.json")])
        prompts = content(f"{key}.json")
        assert set(prompts) == names
        assert all(count_clip_tokens(prompt) <= 77 for prompt in prompts.values())
    assert content("identity.json")["id_1"].startswith(
        "A clothing item in red, women's blouses and shirts. A woven"
    )
    assert content("variant.json")["id_1/02"].startswith(
        "A clothing item, women's blouses and shirts. A woven"
    )
