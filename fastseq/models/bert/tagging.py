"""BertTagger: a tag for each word, by a checkpoint of BERT that is fine-tuned.

model = BertTagger(base="all-MiniLM-L6-v2", epochs=3)
model.fit("train.parquet", valid="valid.parquet")  # columns tokens and tags
model.predict([["a", "dog", "barks"]])
"""

from __future__ import annotations

from typing import ClassVar

from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.examples import BertEncoder
from fastseq.models.bert.finetuning import BertModel, BertState
from fastseq.models.bert.network import BertWordNetwork
from fastseq.models.bert.words import WordEncoder
from fastseq.models.data.examples import ReadReport
from fastseq.models.data.labels import Labels
from fastseq.models.folder import ModelFolder
from fastseq.models.metrics import TagScheme
from fastseq.models.tagger import NetworkTagger
from fastseq.nn.backend import Backend
from fastseq.text.wordpiece import WordPiece


class BertTagger(BertModel, NetworkTagger[BertState]):
    """Sequence labelling by fine-tuning BERT: a tag for each word of a row.

    The tag is that of the word's first piece (Devlin et al. 2019, section 5.3). Rows of more than
    `max_length` tokens are read in windows that overlap, so that every word has a tag.

    Attributes
    ----------
    classes_ : array[K], the tags in ascending order
    tag_scheme_ : how tags encode spans, given or detected
    span_scores_, strict_span_scores_ : {type: SpanScore} of the last `evaluate`
    history_, report_, n_parameters_
    """

    kind: ClassVar[str] = "bert tagger"

    def _encoder(self, tokenizer: WordPiece, limit: int, labels: Labels | None) -> WordEncoder:
        return WordEncoder(tokenizer, limit, labels)

    def _network(
        self, config: BertConfig, encoder: BertEncoder, backend: Backend
    ) -> BertWordNetwork:
        assert encoder.labels is not None
        return BertWordNetwork(config, len(encoder.labels), self.dropout, backend, self.seed)

    def _rebuilt(self, folder: ModelFolder, backend: Backend) -> BertState:
        learned = super()._rebuilt(folder, backend)
        names = learned.names(ReadReport())
        learned.scheme = TagScheme.of(folder.statistics["tag_scheme"], names)
        return learned
