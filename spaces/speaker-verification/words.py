"""Hold every text of the page in English and in Japanese, and translate sentences of the library."""

import re

LANGUAGES = ("en", "ja")

# Labels of the page: Gradio chooses them by the browser's language.
LABELS = {
    "en": {
        "title": "# Are these two recordings of one speaker?",
        "lead": "Record or upload two recordings. They are removed within eleven minutes.",
        "synthetic": "This model was trained on synthetic voices only: its answers about people mean nothing.",
        "no_distribution": "This model came without the scores of its validation trials.",
        "verify": "Verify",
        "first": "First recording",
        "second": "Second recording",
        "point": "Decide so that",
        "point_eer": "both errors are equally rare",
        "point_far_1_percent": "1 in 100 strangers is accepted",
        "point_far_0.1_percent": "1 in 1,000 strangers is accepted",
        "point_slider": "as set under “Operating point”",
        "compare": "Compare",
        "samples": "Or try made-up voices:",
        "sample_same": "One voice, two microphones",
        "sample_other": "Two voices",
        "sample_short": "Too little speech",
        "result": "Result",
        "enrol": "Enrol and identify",
        "enrol_lead": "Voices are kept as numbers in this page’s session only, never on disk, for an hour at most.",
        "name": "Name",
        "enrolment": "Recording to enrol",
        "enrol_button": "Enrol",
        "probe": "Recording to identify",
        "identify_button": "Who is it?",
        "forget": "Forget everybody",
        "enrolled": "Enrolled voices",
        "identified": "Identification",
        "operating": "Operating point",
        "operating_lead": "A threshold trades one error for the other. Move it and read both.",
        "threshold": "Threshold: same speaker from this score on",
        "rates": "What this threshold means",
        "about": "About",
    },
    "ja": {
        "title": "# 二つの録音は同じ話者ですか？",
        "lead": "二つの音声を録音するか、アップロードしてください。音声は 11 分以内に削除されます。",
        "synthetic": "このモデルは合成音声だけで学習しています。人の声については何も分かりません。",
        "no_distribution": "このモデルには検証用スコアが付属していません。",
        "verify": "照合",
        "first": "一つ目の録音",
        "second": "二つ目の録音",
        "point": "判定の基準",
        "point_eer": "二種類の誤りが同じ割合",
        "point_far_1_percent": "他人の受け入れが 100 回に 1 回",
        "point_far_0.1_percent": "他人の受け入れが 1,000 回に 1 回",
        "point_slider": "「動作点」で設定した値",
        "compare": "比較する",
        "samples": "合成音声で試す：",
        "sample_same": "同じ声、別のマイク",
        "sample_other": "別の声",
        "sample_short": "短すぎる音声",
        "result": "結果",
        "enrol": "登録と識別",
        "enrol_lead": "声は数値としてこのセッションだけに最長 1 時間保持され、ディスクには保存されません。",
        "name": "名前",
        "enrolment": "登録する録音",
        "enrol_button": "登録する",
        "probe": "識別する録音",
        "identify_button": "誰の声ですか？",
        "forget": "すべて消去する",
        "enrolled": "登録済みの声",
        "identified": "識別結果",
        "operating": "動作点",
        "operating_lead": "しきい値を動かすと、二種類の誤りの割合が変わります。",
        "threshold": "しきい値：このスコア以上を同一話者とする",
        "rates": "このしきい値の意味",
        "about": "概要",
    },
}

# Texts of answers: chosen by the language that the request asks for.
ANSWERS = {
    "en": {
        "same": "Same speaker",
        "different": "Different speakers",
        "undecided": "No decision",
        "score": "score",
        "threshold": "threshold",
        "probability": "probability of one speaker",
        "llr": "log-likelihood ratio",
        "of_100": "{0} of 100",
        "of_1000": "{0} of 1,000",
        "time": "time",
        "model": "model",
        "decision": "decision",
        "student": "student",
        "teacher": "teacher",
        "distribution": "Scores of the validation trials, and where this one lies",
        "trials": "Scores of the validation trials",
        "target": "same speaker",
        "non_target": "different speakers",
        "recording": "Recording",
        "spectrogram": "waveform, and spectrogram up to 8 kHz; shaded where speech was found",
        "missing": "{0} is missing: record or upload it first.",
        "unreadable": "{0} cannot be read as audio: give wav, flac, ogg or mp3.",
        "gone": "{0} was removed after ten minutes: give it again.",
        "too_large": "{0} has {1:.0f} MB: at most {2:.0f} MB are taken here; give it as flac or mp3.",
        "too_short": "{0} lasts {1:.2f} s: give one with a second of speech or more.",
        "too_long": "{0} lasts more than {1:.0f} s, which are taken here at most: give a shorter one.",
        "no_name": "No name was given: write one beside the recording.",
        "long_name": "The name has {0} characters: at most {1} are taken.",
        "too_many": "{0} voices are enrolled: forget them first.",
        "nobody": "Nobody is enrolled yet.",
        "is": "This is {0}.",
        "unknown": "Nobody who is enrolled.",
        "closest": "Closest: {0}; this model cannot decide.",
        "false_accepts": "different speakers are taken for the same",
        "false_rejects": "recordings of one speaker are turned away",
        "measured_on": "Read from {0:,} trials of {1} speakers ({2}). Rates on your recordings will differ.",
        "voices": "Enrolled: {0}",
        "forgotten": "Everybody was forgotten.",
    },
    "ja": {
        "same": "同じ話者",
        "different": "別の話者",
        "undecided": "判定できません",
        "score": "スコア",
        "threshold": "しきい値",
        "probability": "同じ話者である確率",
        "llr": "対数尤度比",
        "of_100": "100 回に {0} 回",
        "of_1000": "1,000 回に {0} 回",
        "time": "処理時間",
        "model": "モデル",
        "decision": "判定",
        "student": "生徒モデル",
        "teacher": "教師モデル",
        "distribution": "検証用の試行のスコア分布と、今回のスコア",
        "trials": "検証用の試行のスコア分布",
        "target": "同じ話者",
        "non_target": "別の話者",
        "recording": "録音",
        "spectrogram": "波形と 8 kHz までのスペクトログラム（色の付いた部分が音声）",
        "missing": "{0}がありません。録音するかアップロードしてください。",
        "unreadable": "{0}を音声として読み込めません。wav、flac、ogg、mp3 を使ってください。",
        "gone": "{0}は 10 分が過ぎたため削除されました。もう一度送ってください。",
        "too_large": "{0}は {1:.0f} MB あります。{2:.0f} MB 以内の flac か mp3 を使ってください。",
        "too_short": "{0}は {1:.2f} 秒しかなく、短すぎます。1 秒以上の話し声を使ってください。",
        "too_long": "{0}は {1:.0f} 秒を超えています。もっと短い録音を使ってください。",
        "no_name": "名前がありません。録音の横に入力してください。",
        "long_name": "名前が {0} 文字あります。{1} 文字以内にしてください。",
        "too_many": "すでに {0} 人が登録されています。先に消去してください。",
        "nobody": "まだ誰も登録されていません。",
        "is": "{0} さんです。",
        "unknown": "登録されている人ではありません。",
        "closest": "最も近いのは {0} さんですが、このモデルは判定できません。",
        "false_accepts": "別の話者を同一と誤ります",
        "false_rejects": "同じ話者を拒否します",
        "measured_on": "{1} 人の話者による {0:,} 試行（{2}）から求めた値です。実際の録音では異なります。",
        "voices": "{0} 人が登録されています",
        "forgotten": "すべて消去しました。",
    },
}

_MAY_BE_CUT_OFF = "{name}は末尾が欠けているかもしれません。"
# Sentences of the library and of service.py, where recordings are "Recording 1" and "Recording 2". The sentences are
# English texts, not codes: a pattern has few words, so that small changes do not break it, and a test fails where no
# sentence matches a pattern any more.
SENTENCES = {
    r"(?P<name>.+) is silent: .*": "{name}は無音です。話し声の入った録音を使ってください。",
    r"(?P<name>.+) has (?P<s>[\d.]+) s of speech: a voice is enrolled .*": (
        "{name}の音声は {s} 秒だけです。登録には 1 秒以上の話し声が必要です。"
    ),
    r"(?P<name>.+) has (?P<s>[\d.]+) s of speech: .*": "{name}の音声は {s} 秒だけです。短いと判定は不確かです。",
    r"(?P<name>.+) is clipped \((?P<p>[\d.]+) %.*": "{name}は音割れしています（{p} %）。音量を下げてください。",
    r"(?P<name>.+) has no samples: .*": "{name}は空です。話し声の入った録音を使ってください。",
    r"input_values has (?P<n>\d+) samples: .*": "録音が短すぎます（{n} サンプル）。もっと長い録音を使ってください。",
    r"(?P<name>.+) is truncated.*": "{name}は途中で切れています。完全なファイルを使ってください。",
    r"(?P<name>.+) is damaged.*": "{name}は壊れています。完全なファイルを使ってください。",
    r"(?P<name>.+) cannot be read .*": "{name}を音声として読み込めません。wav、flac、ogg、mp3 を使ってください。",
    r"(?P<name>.+) has a sampling rate of (?P<n>\d+) Hz.*": (
        "{name}のサンプリング周波数は {n} Hz です。書き出し方を確認してください。"
    ),
    r"(?P<name>.+) has NaN or infinite samples.*": (
        "{name}に数値でないサンプルがあります。書き出し方を確認してください。"
    ),
    r"(?P<name>.+) has samples that reach (?P<p>[^:]+): .*": (
        "{name}のサンプルが {p} に達しています。-1 から 1 の範囲にしてください。"
    ),
    r"(?P<name>.+) has (?P<n>\d+) channels at (?P<r>\d+) Hz: .*": (
        "{name}は {n} チャンネル、{r} Hz です。16000 Hz のモノラルにしてください。"
    ),
    r"(?P<name>.+) does not say how long it is: .*": "{name}には長さの情報がありません。書き出し直してください。",
    r"(?P<name>.+) has channels that cancel .*": (
        "{name}のチャンネルが互いに打ち消し合っています。片方だけを使ってください。"
    ),
    r"(?P<name>.+) is too quiet .*": "{name}の音量が小さすぎます。もっと大きな音量で録音してください。",
    r"(?P<name>.+) has nothing in it that is like speech.*": (
        "{name}に話し声らしい音がありません。声の入った録音を使ってください。"
    ),
    r"(?P<name>.+) has no speech above 4 kHz.*": (
        "{name}は電話のような狭い帯域の音声です。広い帯域の録音と比べるとスコアが下がります。"
    ),
    r"Speech was found by its level alone.*": "音声は音量だけで検出しました。雑音も音声とみなすことがあります。",
    r"(?P<name>.+) has a header that was never .*": _MAY_BE_CUT_OFF,
    r"(?P<name>.+) has a header without a length.*": _MAY_BE_CUT_OFF,
    r"(?P<name>.+) has no last page.*": _MAY_BE_CUT_OFF,
    r"(?P<name>.+) ends within a frame.*": _MAY_BE_CUT_OFF,
    r"(?P<name>.+) is of a format whose end .*": _MAY_BE_CUT_OFF,
    r"The threshold (?P<t>[-\d.]+).* stands on (?P<n>\d+) speakers.*": (
        "しきい値 {t} は {n} 人の話者だけから求めたものです。ほかの話者では当てはまらないことがあります。"
    ),
    r"The name .* has slashes, line breaks.*": "名前に使えない文字があります。別の名前を使ってください。",
    r"(?P<name>.+) is clipped: record it again.*": "{name}は音割れしています。音量を下げて録音し直してください。",
    r"(?P<name>.+) may have several speakers.*": (
        "{name}には複数の話者がいるかもしれません。一人の声だけの録音を使ってください。"
    ),
    r"The calibration stands on (?P<n>\d+) speakers.*": (
        "確率は {n} 人の話者だけから求めたものです。ほかの話者では当てはまらないことがあります。"
    ),
    r"There is (?P<s>[\d.]+) s of speech, and the calibration.*": (
        "音声は {s} 秒だけで、較正に使った録音より短いため、確率は不確かです。"
    ),
    r"The calibration counts speech as .*": "較正とは別の方法で音声を検出したため、音声の長さは考慮していません。",
    r"The model has no threshold at .*": "このモデルにはこの動作点のしきい値がありません。スコアだけを示します。",
}


def language_of(accept_language: str | None) -> str:
    """Return the first of `LANGUAGES` that a browser asks for, else "en".

    Args:
        accept_language: the request's header of that name, such as "ja,en;q=0.8".
    """
    for entry in (accept_language or "").split(","):
        code = entry.split(";")[0].strip().lower()[:2]
        if code in LANGUAGES:
            return code
    return "en"


def translate(sentence: str, language: str) -> str:
    """Translate a sentence of the library.

    Args:
        sentence: in English.
        language: one of `LANGUAGES`.

    Returns:
        The sentence in that language; unchanged where it matches none of `SENTENCES`.
    """
    if language == "en":
        return sentence
    for pattern, form in SENTENCES.items():
        match = re.fullmatch(pattern, sentence)
        if match:
            values = {name: value.replace("Recording ", "録音 ") for name, value in match.groupdict().items()}
            return form.format(**values)
    return sentence
