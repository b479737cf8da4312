"""The bodies of requests and answers of the page, as its OpenAPI description shows them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from clipreid_kit.retrieval.store.conditions import Between, Not

_SHA256 = r"^[0-9a-f]{64}$"

Value = bool | int | float | str | None


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class QueryBody(_Request):
    """A query: an image of an index by its key, a dropped image, or a text."""

    key: int | None = Field(None, ge=0, description="Key of an image of the index.")
    index: int = Field(0, ge=0, le=1, description="Number of the index that the key is of.")
    image: str | None = Field(None, pattern=_SHA256, description="SHA-256 of a dropped image.")
    text: str | None = Field(None, description="A sentence; not an empty one.")

    @model_validator(mode="after")
    def _check_one(self) -> "QueryBody":
        given = [self.key is not None, self.image is not None, self.text is not None]
        if sum(given) != 1:
            raise ValueError("give one of key, image and text")
        if self.text is not None and not self.text.strip():
            raise ValueError("the text is empty; write a sentence to search for")
        return self


class ConditionBody(_Request):
    """A condition on a column: one of some values, or a range; or everything else."""

    column: str
    values: list[Value] | None = Field(None, max_length=1000)
    low: float | str | None = None
    high: float | str | None = None
    negated: bool = False

    def condition(self) -> object:
        """Return the condition as ``where`` of a search takes it.

        Raises:
            ValueError: If it has neither values nor an end of a range, or both.
        """
        is_range = self.low is not None or self.high is not None
        if is_range == (self.values is not None):
            raise ValueError(f"The condition on {self.column} needs values, or low and high.")

        condition: object = Between(self.low, self.high) if is_range else self.values
        return Not(condition) if self.negated else condition


class SearchBody(_Request):
    """A search."""

    query: QueryBody
    k: int = Field(24, ge=1, description="Images to find.")
    where: list[ConditionBody] = Field(default_factory=list, max_length=50)
    group_by: Literal["identity"] | None = None
    other_cameras: bool = Field(
        default=False, description="Leave out images of the query's camera; for a key."
    )
    index: int | None = Field(None, ge=0, le=1, description="Search this index only.")


class MarkBody(_Request):
    """A hit that is right or wrong for a query; null withdraws an earlier mark."""

    query: QueryBody
    key: int = Field(ge=0)
    index: int = Field(0, ge=0, le=1)
    is_match: bool | None


class HitBody(BaseModel):
    """A hit, as ``clipreid search --json`` prints it, too."""

    rank: int
    key: int
    similarity: float
    probability: float | None = None
    path: str | None = None
    identity: int | str | None = None
    camera: int | str | None = None
    view: str | None = None
    caption: str | None = None
    split: str | None = None
    modality: str | None = None
    extra: dict[str, Any] | None = None


class AnswerBody(BaseModel):
    """Answer of one index."""

    index: int
    generation: int
    milliseconds: float = Field(description="Time of the search, without encoding.")
    unknown: bool | None = Field(None, description="No image is similar enough.")
    hits: list[HitBody]
    marks: dict[int, bool] = Field(description="Marks of these hits for this query, by key.")
    error: str | None = Field(None, description="Why this index has no answer.")


class QueryEcho(BaseModel):
    """The query, with what the index knows of it."""

    key: int | None = None
    index: int | None = None
    image: str | None = None
    text: str | None = None
    path: str | None = None
    identity: int | str | None = None
    camera: int | str | None = None
    caption: str | None = None


class SearchAnswer(BaseModel):
    """Answer to a search."""

    query: QueryEcho
    answers: list[AnswerBody]


class ImageAnswer(BaseModel):
    """A dropped image that the server keeps for a while."""

    image: str = Field(description="SHA-256 of the file, to search by.")
    width: int
    height: int


class MarkAnswer(BaseModel):
    """A mark that is on the disk."""

    num_marks: int = Field(description="Marks of all queries.")


class ErrorAnswer(BaseModel):
    """Why a request was refused."""

    detail: str


class IndexFacts(BaseModel):
    """An index that is served."""

    name: str
    num_images: int
    generation: int
    model: str | None = Field(description="Where its model came from.")
    fingerprint: str | None
    takes_images: bool
    takes_texts: bool
    obstacle: str | None = Field(description="Why it takes no images or no texts.")
    has_records: bool
    is_calibrated: bool
    threshold: float | None
    columns: list[dict[str, Any]]


class PageFacts(BaseModel):
    """Choices that the page offers."""

    indexes: list[IndexFacts]
    max_upload_bytes: int
    max_hits: int
    max_text: int
    marks_file: str
    num_marks: int
    samples: list[int] = Field(description="Keys of images of the first index to begin with.")
